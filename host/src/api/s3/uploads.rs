//! Multipart uploads: an upload is a row, its parts are objects of a system bucket until it is completed.
//!
//! Both are durable, so an upload goes on after a restart of the host.

mod parts;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::{
    CommitError, Condition, ObjectMeta, Order, Publication, Staged, StateWrite, Store, StoreError, Unit,
};

use self::parts::{PARTS, checked_number, part_key, part_of, parts, sums_of};
use super::buckets::timestamp;
use super::checks::{Promised, promised};
use super::headers::sent;
use super::objects::{Coming, not_staged, source_of, too_large};
use super::operations::Operations;
use super::sums::{self, Wanted, copy_sums};
use super::{Storage, not_committed, unavailable};
use crate::api::objects;

/// The table of uploads and the bucket of their parts.
const UPLOADS: &str = "$uploads";
/// From this size on, the client is kept waiting by white space while the parts are joined.
const LARGE: u64 = 64 << 20;
/// Rows or parts that are read at one time.
const PAGE: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Upload {
    bucket: String,
    key: String,
    content_type: Option<String>,
    user: BTreeMap<String, String>,
    created: u64,
    /// The checksum that the object is to have.
    #[serde(default)]
    sum: Option<Wanted>,
}

/// An upload as its row was read.
struct Begun {
    id: String,
    upload: Upload,
    version: u64,
}

/// The time, in milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    chrono::Utc::now().timestamp_millis().cast_unsigned()
}

fn row(id: &str, value: Option<Bytes>) -> StateWrite {
    StateWrite {
        table: UPLOADS.into(),
        key: id.into(),
        value,
        condition: Condition::None,
    }
}

/// What forgets an upload with its parts; `condition` is that of its row.
async fn forgetting(store: &dyn Store, id: &str, condition: Condition) -> S3Result<Unit> {
    let parts = parts(store, id).await.map_err(unavailable)?;
    let objects = parts
        .iter()
        .map(|part| objects::deletion(UPLOADS, &part.key))
        .collect();
    let state = vec![StateWrite {
        condition,
        ..row(id, None)
    }];
    Ok(Unit {
        state,
        objects,
        ..Unit::default()
    })
}

async fn forget(store: &dyn Store, id: &str) -> S3Result<()> {
    let unit = forgetting(store, id, Condition::None).await?;
    store.commit(unit).await.map_err(not_committed)
}

/// Gives up the uploads that were begun before `limit` and not completed; answers how many.
pub async fn give_up_old_uploads(store: &dyn Store, lifetime: std::time::Duration) -> S3Result<usize> {
    let limit = now().saturating_sub(lifetime.as_millis() as u64);
    let page = store
        .query(UPLOADS, "", None, PAGE, Order::Ascending)
        .await
        .map_err(unavailable)?;
    let mut given_up = 0;
    for (id, row) in page.entries {
        let upload: Option<Upload> = serde_json::from_slice(&row.value).ok();
        if upload.is_none_or(|upload| upload.created < limit) {
            forget(store, &id).await?;
            given_up += 1;
        }
    }
    Ok(given_up)
}

impl Storage {
    async fn upload(&self, id: &str, bucket: &str, key: &str) -> S3Result<Begun> {
        let row = self.store().get(UPLOADS, id).await.map_err(unavailable)?;
        let begun = row.and_then(|row| {
            Some(Begun {
                id: id.to_owned(),
                upload: serde_json::from_slice(&row.value).ok()?,
                version: row.version,
            })
        });
        let begun = begun.filter(|begun| begun.upload.bucket == bucket && begun.upload.key == key);
        begun.ok_or_else(|| s3_error!(NoSuchUpload, "there is no upload `{id}` of `{bucket}/{key}`"))
    }

    /// Copies the parts into one object. The store keeps an object in one file, so that their bytes are copied
    /// once more, piece by piece.
    async fn join(&self, sum: Option<&Wanted>, parts: &[ObjectMeta]) -> S3Result<(Staged, Checksum)> {
        let mut stage = self.store().stage().await.map_err(unavailable)?;
        let (mut md5, mut bytes) = (Md5::new(), Wanted::of_bytes(sum));
        for part in parts {
            md5.update(&bytes_of_hex(&part.etag));
            let object = self.store().open(UPLOADS, &part.key).await.map_err(unavailable)?;
            let object = object.ok_or_else(|| s3_error!(NoSuchUpload, "the upload was aborted meanwhile"))?;
            let mut pieces = objects::pieces(object, 0..part.size);
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(unavailable)?;
                bytes.update(&piece);
                stage.write(piece).await.map_err(unavailable)?;
            }
        }
        let staged = stage.finish().await.map_err(unavailable)?;
        let etag = format!("{}-{}", objects::hex(md5.finalize().as_ref()), parts.len());
        let of_parts: Vec<Checksum> = parts.iter().map(sums_of).collect();
        let sums = sum.map_or_else(|| Ok(Checksum::default()), |sum| sum.of_object(bytes, &of_parts))?;
        Ok((Staged { etag, ..staged }, sums))
    }

    /// Joins the parts into one object. One unit makes the object and forgets the upload.
    async fn complete(
        self,
        begun: Begun,
        parts: Vec<ObjectMeta>,
        condition: Condition,
        promised: Checksum,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let Begun { id, upload, version } = begun;
        let (staged, sums) = self.join(upload.sum.as_ref(), &parts).await?;
        if let Some((name, sent, computed)) = sums::difference(&promised, &sums) {
            return Err(s3_error!(
                BadDigest,
                "the checksum {name} was sent as `{sent}`, the object has `{computed}`"
            ));
        }
        let mut user = upload.user;
        sums::keep(&sums, &mut user);
        let publication = Publication {
            bucket: upload.bucket.clone(),
            key: upload.key.clone(),
            staged: Some(staged),
            content_type: upload.content_type,
            user,
            condition,
        };
        let forgotten = forgetting(self.store(), &id, Condition::Version(version)).await?;
        let published = self.faces.platform.publish_with(publication, forgotten).await;
        let meta = published.map_err(|error| match error {
            CommitError::Conflict { table, .. } if table == UPLOADS => {
                s3_error!(
                    NoSuchUpload,
                    "the upload `{id}` was completed or aborted meanwhile"
                )
            }
            other => not_committed(other),
        })?;
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", upload.bucket, upload.key)),
            bucket: Some(upload.bucket),
            key: Some(upload.key),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..Default::default()
        };
        copy_sums!(sums => output);
        output.checksum_type = sums.checksum_type;
        Ok(output)
    }
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or_default() as u8;
    hex.as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, &half| byte << 4 | digit(half)))
        .collect()
}

impl Operations<'_> {
    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let mut input = request.input;
        self.0.check_bucket(&input.bucket).await?;
        let sum = Wanted::new(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let upload = Upload {
            user: sent!(input).kept(),
            bucket: input.bucket,
            key: input.key,
            content_type: input.content_type,
            created: now(),
            sum,
        };
        let id = ulid::Ulid::new().to_string();
        let value = serde_json::to_vec(&upload)
            .map_err(StoreError::new)
            .map_err(unavailable)?;
        let unit = Unit {
            state: vec![row(&id, Some(value.into()))],
            ..Unit::default()
        };
        self.0.store().commit(unit).await.map_err(not_committed)?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(upload.bucket),
            key: Some(upload.key),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: upload.sum.as_ref().map(Wanted::kind),
            ..Default::default()
        })
    }

    pub(super) async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let (trailers, headers) = (
            request.trailing_headers.take(),
            std::mem::take(&mut request.headers),
        );
        let mut input = request.input;
        let number = checked_number(input.part_number)?;
        let begun = self.0.upload(&input.upload_id, &input.bucket, &input.key).await?;
        let promised = Promised {
            also: begun.upload.sum.clone(),
            ..promised!(input)
        };
        let coming = Coming {
            bucket: &input.bucket,
            key: &input.key,
            body: input.body,
            length: input.content_length,
            headers: &headers,
            trailers,
        };
        let (staged, sums) = self.0.stage(coming, promised).await?;
        let etag = staged.etag.clone();
        self.0.keep_part(&begun, number, staged, &sums).await?;
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        };
        copy_sums!(sums => output);
        Ok(output)
    }

    pub(super) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<UploadPartCopyOutput> {
        let input = request.input;
        let number = checked_number(input.part_number)?;
        let begun = self.0.upload(&input.upload_id, &input.bucket, &input.key).await?;
        let (bucket, key) = source_of(&input.copy_source)?;
        let source = self.0.open(bucket, key).await?;
        let range = match input.copy_source_range.as_deref().map(Range::parse) {
            None => 0..source.meta().size,
            Some(Ok(range)) => range.check(source.meta().size)?,
            Some(Err(error)) => return Err(s3_error!(InvalidArgument, "`x-amz-copy-source-range`: {error}")),
        };
        let bound = self.0.faces.config.gateway.max_object;
        let pieces = objects::pieces(source, range);
        let sum = begun.upload.sum.as_ref();
        let mut hasher = sums::hasher(|name| sum.is_some_and(|sum| sum.is(name)));
        let staged = objects::stage(self.0.store(), pieces, bound, |piece| hasher.update(piece))
            .await
            .map_err(not_staged)?;
        let sums = hasher.finalize();
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(staged.etag.clone())),
            last_modified: Some(timestamp(now())),
            ..Default::default()
        };
        copy_sums!(sums => result);
        self.0.keep_part(&begun, number, staged, &sums).await?;
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..Default::default()
        })
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
        let input = request.input;
        self.0.upload(&input.upload_id, &input.bucket, &input.key).await?;
        let marker = input.part_number_marker.unwrap_or_default().clamp(0, PARTS);
        let limit = input.max_parts.unwrap_or(1000).clamp(1, 1000);
        let (prefix, after) = (
            format!("{}/", input.upload_id),
            part_key(&input.upload_id, marker),
        );
        let page = self
            .0
            .store()
            .list(UPLOADS, &prefix, Some(&after), limit as usize)
            .await
            .map_err(unavailable)?;
        let parts: Vec<Part> = page.entries.iter().map(part_of).collect();
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(marker),
            max_parts: Some(limit),
            is_truncated: Some(page.next.is_some()),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            parts: Some(parts),
            ..Default::default()
        })
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let input = request.input;
        self.0.check_bucket(&input.bucket).await?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let page = self
            .0
            .store()
            .query(UPLOADS, "", None, PAGE, Order::Ascending)
            .await
            .map_err(unavailable)?;
        let mut uploads = Vec::new();
        for (id, row) in page.entries {
            let Ok(upload) = serde_json::from_slice::<Upload>(&row.value) else {
                continue;
            };
            if upload.bucket == input.bucket && upload.key.starts_with(&prefix) {
                uploads.push(MultipartUpload {
                    key: Some(upload.key),
                    upload_id: Some(id),
                    initiated: Some(timestamp(upload.created)),
                    ..Default::default()
                });
            }
        }
        uploads.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            uploads: Some(uploads),
            is_truncated: Some(false),
            ..Default::default()
        })
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let input = request.input;
        let (bucket, key) = (input.bucket.as_str(), input.key.as_str());
        let begun = self.0.upload(&input.upload_id, bucket, key).await?;
        self.0.has_room(bucket, key).await?;
        let (if_match, if_none_match) = (input.if_match.as_ref(), input.if_none_match.as_ref());
        let condition = self.0.condition(bucket, key, if_match, if_none_match).await?;
        let mut promised = Checksum::default();
        copy_sums!(input => promised);
        let named = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let parts = self.0.named_parts(&input.upload_id, named).await?;
        let size = parts.iter().map(|part| part.size).sum::<u64>();
        let bound = self.0.faces.config.gateway.max_object;
        if size > bound {
            return Err(too_large(bucket, key, Some(size), bound));
        }
        let joining = self.0.clone().complete(begun, parts, condition, promised);
        if size < LARGE {
            return joining.await;
        }
        let future: futures::future::BoxFuture<'static, _> = Box::pin(joining);
        Ok(CompleteMultipartUploadOutput {
            future: Some(future),
            ..Default::default()
        })
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let input = request.input;
        self.0.upload(&input.upload_id, &input.bucket, &input.key).await?;
        forget(self.0.store(), &input.upload_id).await?;
        Ok(AbortMultipartUploadOutput::default())
    }
}
