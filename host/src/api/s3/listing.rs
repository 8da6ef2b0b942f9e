//! Listings: keys in order, folded at a delimiter, page by page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};
use tidegate_runtime::store::{ObjectMeta, Store, StoreError};

use super::buckets::timestamp;
use super::operations::Operations;
use super::unavailable;

/// Keys of one page, as S3 has it.
const MOST: i32 = 1000;
/// Keys that are read at one time where names fold.
const FOLDED: usize = 64;
/// No key has a character after this one: what begins with a prefix comes before prefix and this.
const LAST: char = char::MAX;

/// What is listed.
struct Asked<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    after: Option<String>,
    limit: usize,
}

/// One page.
#[derive(Default)]
struct Listed {
    objects: Vec<ObjectMeta>,
    prefixes: Vec<String>,
    /// The last key or folded prefix of the page; none when there is no more.
    next: Option<String>,
}

/// Reads a page. A folded prefix is stepped over, however many keys begin with it.
async fn list(store: &dyn Store, asked: Asked<'_>) -> Result<Listed, StoreError> {
    let mut listed = Listed::default();
    let mut after = asked
        .after
        .map(|after| step_over(after, asked.prefix, asked.delimiter));
    let mut last = None;
    loop {
        let room = asked.limit - listed.objects.len() - listed.prefixes.len();
        // One more than there is room for tells whether there is more.
        let page = store
            .list(
                asked.bucket,
                asked.prefix,
                after.as_deref(),
                fetch(room, asked.delimiter),
            )
            .await?;
        let mut folded = false;
        for meta in page.entries {
            if listed.objects.len() + listed.prefixes.len() == asked.limit {
                listed.next = last;
                return Ok(listed);
            }
            if let Some(prefix) = fold(&meta.key, asked.prefix, asked.delimiter) {
                after = Some(format!("{prefix}{LAST}"));
                last = Some(prefix.clone());
                listed.prefixes.push(prefix);
                folded = true;
                break;
            }
            last = Some(meta.key.clone());
            listed.objects.push(meta);
        }
        if !folded {
            after = page.next;
            if after.is_none() {
                return Ok(listed);
            }
        }
    }
}

/// How many keys to read at once: where names fold, most of a large page would be read in vain.
fn fetch(room: usize, delimiter: Option<&str>) -> usize {
    if delimiter.is_some_and(|delimiter| !delimiter.is_empty()) {
        (room + 1).min(FOLDED)
    } else {
        room + 1
    }
}

/// The part of a key up to the delimiter, where it has one after the prefix.
fn fold(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.get(prefix.len()..)?;
    let end = rest.find(delimiter)? + delimiter.len();
    Some(format!("{prefix}{}", &rest[..end]))
}

/// Where a page goes on after a folded prefix: after all that it stands for.
fn step_over(after: String, prefix: &str, delimiter: Option<&str>) -> String {
    match fold(&after, prefix, delimiter) {
        Some(folded) if folded == after => format!("{after}{LAST}"),
        _ => after,
    }
}

/// How names are written: as they are, or, where the client asks, so that XML can hold any of them.
struct Encoding(Option<EncodingType>);

impl Encoding {
    fn name(&self, name: String) -> String {
        match &self.0 {
            Some(kind) if kind.as_str() == EncodingType::URL => percent_encoded(&name),
            _ => name,
        }
    }
}

fn percent_encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'*' => {
                encoded.push(byte as char)
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn object_of(meta: ObjectMeta, encoding: &Encoding) -> Object {
    Object {
        key: Some(encoding.name(meta.key)),
        size: i64::try_from(meta.size).ok(),
        e_tag: Some(ETag::Strong(meta.etag)),
        last_modified: Some(timestamp(meta.modified)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    }
}

fn shown(listed: Listed, encoding: &Encoding) -> (Option<Vec<Object>>, Option<Vec<CommonPrefix>>) {
    let objects: Vec<Object> = listed
        .objects
        .into_iter()
        .map(|meta| object_of(meta, encoding))
        .collect();
    let prefix = |prefix| CommonPrefix {
        prefix: Some(encoding.name(prefix)),
    };
    let prefixes: Vec<CommonPrefix> = listed.prefixes.into_iter().map(prefix).collect();
    (
        (!objects.is_empty()).then_some(objects),
        (!prefixes.is_empty()).then_some(prefixes),
    )
}

fn limit(asked: Option<i32>) -> S3Result<i32> {
    match asked.unwrap_or(MOST) {
        limit if limit < 0 => Err(s3_error!(
            InvalidArgument,
            "`max-keys` is {limit}, allowed are 0 to {MOST}"
        )),
        limit => Ok(limit.min(MOST)),
    }
}

fn token_of(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

fn parse_token(token: &str) -> S3Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "the continuation token is not one of this server's"
        )
    })
}

impl Operations<'_> {
    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<ListObjectsV2Output> {
        let input = request.input;
        let limit = limit(input.max_keys)?;
        let after = match &input.continuation_token {
            Some(token) => Some(parse_token(token)?),
            None => input.start_after.clone(),
        };
        let listed = self
            .page(&input.bucket, &input.prefix, &input.delimiter, after, limit)
            .await?;
        let encoding = Encoding(input.encoding_type.clone());
        let count = listed.objects.len() + listed.prefixes.len();
        let next = listed.next.as_deref().map(token_of);
        let (contents, common_prefixes) = shown(listed, &encoding);
        Ok(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| encoding.name(prefix)),
            delimiter: input.delimiter.map(|delimiter| encoding.name(delimiter)),
            start_after: input.start_after.map(|after| encoding.name(after)),
            max_keys: Some(limit),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents,
            common_prefixes,
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<ListObjectsOutput> {
        let input = request.input;
        let limit = limit(input.max_keys)?;
        let listed = self
            .page(
                &input.bucket,
                &input.prefix,
                &input.delimiter,
                input.marker.clone(),
                limit,
            )
            .await?;
        let encoding = Encoding(input.encoding_type.clone());
        let next = listed.next.clone().map(|next| encoding.name(next));
        let (contents, common_prefixes) = shown(listed, &encoding);
        Ok(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: input.prefix.map(|prefix| encoding.name(prefix)),
            delimiter: input.delimiter.map(|delimiter| encoding.name(delimiter)),
            marker: input.marker.map(|marker| encoding.name(marker)),
            max_keys: Some(limit),
            is_truncated: Some(next.is_some()),
            next_marker: next,
            contents,
            common_prefixes,
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    async fn page(
        &self,
        bucket: &str,
        prefix: &Option<String>,
        delimiter: &Option<String>,
        after: Option<String>,
        limit: i32,
    ) -> S3Result<Listed> {
        self.0.check_bucket(bucket).await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        if limit == 0 {
            return Ok(Listed::default());
        }
        let prefix = prefix.as_deref().unwrap_or_default();
        let asked = Asked {
            bucket,
            prefix,
            delimiter: delimiter.as_deref(),
            after,
            limit,
        };
        list(self.0.store(), asked).await.map_err(unavailable)
    }
}

#[cfg(test)]
mod tests;
