//! Objects over HTTP, as the gateway and the workers read and write them; and what S3 shares with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::IntoResponse as _;
use base64::Engine as _;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tidegate_runtime::Platform;
use tidegate_runtime::platform::BUCKETS;
use tidegate_runtime::store::{
    Condition, ObjectMeta, ObjectReader, Publication, SYSTEM_PREFIX, Staged, Store, StoreError,
};
use tokio_stream::wrappers::ReceiverStream;

use super::error::ApiError;

/// Bytes of one piece of a download.
const PIECE: usize = 256 << 10;
/// Pieces that are read ahead of a slow client.
const AHEAD: usize = 2;
/// Bytes of a key, as S3 has it.
const KEY_BYTES: usize = 1024;

/// Whether a bucket may be named from outside, and exists.
pub async fn bucket_exists(store: &dyn Store, bucket: &str) -> Result<bool, StoreError> {
    Ok(!bucket.starts_with(SYSTEM_PREFIX) && store.get(BUCKETS, bucket).await?.is_some())
}

/// Refuses a bucket that does not exist and a key that cannot be.
pub async fn checked_place(store: &dyn Store, bucket: &str, key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(ApiError::bad(format!(
            "a key has 1 to {KEY_BYTES} bytes, this one has {}",
            key.len()
        )));
    }
    if !bucket_exists(store, bucket).await? {
        let hint = "buckets are made by S3's CreateBucket, or when an app that names them is deployed";
        return Err(ApiError::missing(format!(
            "there is no bucket `{bucket}`; {hint}"
        )));
    }
    Ok(())
}

/// The bytes `range` of an object, in pieces, read a little ahead of whoever takes them.
pub fn pieces(
    object: Arc<dyn ObjectReader>,
    range: std::ops::Range<u64>,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + Sync + Unpin + 'static {
    let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut at = range.start;
        while at < range.end {
            let len = usize::try_from(range.end - at).map_or(PIECE, |left| left.min(PIECE));
            let piece = match object.read_at(at, len).await {
                Ok(piece) if piece.is_empty() => Err(StoreError(format!(
                    "`{}` is cut short at {at}",
                    object.meta().key
                ))),
                read => read,
            };
            at += piece.as_ref().map_or(u64::MAX - at, |piece| piece.len() as u64);
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Why bytes were not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The sender stopped, or sent something else than it promised.
    #[error("the body ended early: {0}")]
    Body(String),
    /// More than allowed.
    #[error("the object is larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stages a body as it arrives; `see` is shown every piece.
pub async fn stage<E: std::fmt::Display>(
    store: &dyn Store,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    bound: u64,
    mut see: impl FnMut(&[u8]),
) -> Result<Staged, StageError> {
    let mut stage = store.stage().await?;
    let mut size = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| StageError::Body(error.to_string()))?;
        size += piece.len() as u64;
        if size > bound {
            return Err(StageError::TooLarge(bound));
        }
        see(&piece);
        stage.write(piece).await?;
    }
    Ok(stage.finish().await?)
}

/// Answers a GET or a HEAD of an object, ranges included.
pub async fn read(
    store: &dyn Store,
    bucket: &str,
    key: &str,
    headers: &HeaderMap,
    with_body: bool,
) -> Result<axum::response::Response, ApiError> {
    checked_place(store, bucket, key).await?;
    let object = store.open(bucket, key).await?;
    let object = object.ok_or_else(|| ApiError::missing(format!("there is no object `{bucket}/{key}`")))?;
    let size = object.meta().size;
    let range = match headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        None => None,
        Some(text) => Some(parse_range(text, size).ok_or_else(|| unsatisfiable(text, size))?),
    };
    let mut response = head_of(object.meta());
    let wanted = range.clone().unwrap_or(0..size);
    if let Some(range) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        response
            .headers_mut()
            .extend(HeaderValue::from_str(&told).map(|value| (header::CONTENT_RANGE, value)));
    }
    response.headers_mut().insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(wanted.end - wanted.start),
    );
    let body = if with_body {
        axum::body::Body::from_stream(pieces(object, wanted))
    } else {
        axum::body::Body::empty()
    };
    Ok(response.map(|()| body).into_response())
}

/// Writes an object: the whole body, or nothing.
pub async fn write(
    platform: &Platform,
    bucket: &str,
    key: &str,
    headers: &HeaderMap,
    body: axum::body::Body,
    bound: u64,
) -> Result<ObjectMeta, ApiError> {
    let store = platform.store().as_ref();
    checked_place(store, bucket, key).await?;
    if announced(headers).is_some_and(|size| size > bound) {
        return Err(ApiError::too_large("the object", bound));
    }
    let condition = condition(store, bucket, key, headers).await?;
    let staged = stage(store, body.into_data_stream(), bound, |_| {})
        .await
        .map_err(|error| match error {
            StageError::TooLarge(bound) => ApiError::too_large("the object", bound),
            StageError::Body(text) => ApiError::bad(text),
            StageError::Store(error) => error.into(),
        })?;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let publication = Publication {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        staged: Some(staged),
        content_type,
        user: BTreeMap::new(),
        condition,
    };
    platform
        .publish(publication)
        .await
        .map_err(|error| match ApiError::from(error) {
            conflict if conflict.status == StatusCode::CONFLICT => {
                ApiError::new(StatusCode::PRECONDITION_FAILED, conflict.message)
            }
            other => other,
        })
}

/// Deletes an object; one that is not there is as good as deleted.
pub async fn delete(platform: &Platform, bucket: &str, key: &str) -> Result<(), ApiError> {
    checked_place(platform.store().as_ref(), bucket, key).await?;
    if platform.store().head(bucket, key).await?.is_none() {
        return Ok(());
    }
    platform.publish(deletion(bucket, key)).await?;
    Ok(())
}

/// What deletes an object.
pub fn deletion(bucket: &str, key: &str) -> Publication {
    Publication {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        staged: None,
        content_type: None,
        user: BTreeMap::new(),
        condition: Condition::None,
    }
}

/// The hexadecimal MD5 of a `Content-MD5`.
pub fn md5_hex(base64: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(base64.trim())
        .ok()?;
    (bytes.len() == 16).then(|| hex(&bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The length that a body announces.
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn condition(
    store: &dyn Store,
    bucket: &str,
    key: &str,
    headers: &HeaderMap,
) -> Result<Condition, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH) == Some("*") {
        return Ok(Condition::Absent);
    }
    let Some(wanted) = text(header::IF_MATCH) else {
        return Ok(Condition::None);
    };
    match store.head(bucket, key).await? {
        Some(found) if found.etag == wanted.trim_matches('"') => Ok(Condition::Version(found.sequencer)),
        found => {
            let found = found.map_or("no object".to_owned(), |meta| format!("`{}`", meta.etag));
            let message = format!("`If-Match` is `{wanted}`, `{bucket}/{key}` is {found}");
            Err(ApiError::new(StatusCode::PRECONDITION_FAILED, message))
        }
    }
}

fn head_of(meta: &ObjectMeta) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    let content_type = meta.content_type.as_deref().unwrap_or("application/octet-stream");
    let modified = chrono::DateTime::from_timestamp_millis(meta.modified as i64).unwrap_or_default();
    let texts = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::ETAG, format!("\"{}\"", meta.etag)),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (
            header::LAST_MODIFIED,
            modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        ),
    ];
    for (name, text) in texts {
        headers.extend(HeaderValue::from_str(&text).map(|value| (name, value)));
    }
    response
}

fn unsatisfiable(text: &str, size: u64) -> ApiError {
    let message = format!("range `{text}` is not within the object's {size} bytes");
    ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, message)
}

/// One range of bytes, as RFC 9110 writes it.
fn parse_range(text: &str, size: u64) -> Option<std::ops::Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => size.saturating_sub(suffix.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        assert_eq!(parse_range("bytes=0-9", 100), Some(0..10));
        assert_eq!(parse_range("bytes=90-", 100), Some(90..100));
        assert_eq!(parse_range("bytes=-5", 100), Some(95..100));
        assert_eq!(parse_range("bytes=-500", 100), Some(0..100));
        assert_eq!(parse_range("bytes=10-18446744073709551615", 100), Some(10..100));
        for wrong in [
            "bytes=100-",
            "bytes=5-4",
            "bytes=-0",
            "bytes=a-b",
            "lines=1-2",
            "bytes=0-1,3-4",
            "",
        ] {
            assert_eq!(parse_range(wrong, 100), None, "{wrong}");
        }
    }

    #[test]
    fn a_content_md5_is_sixteen_bytes() {
        assert_eq!(
            md5_hex("1B2M2Y8AsgTpgAmY7PhCfg==").as_deref(),
            Some("d41d8cd98f00b204e9800998ecf8427e")
        );
        assert_eq!(md5_hex("abcd"), None);
        assert_eq!(md5_hex("not base64"), None);
    }
}
