//! Blobs in a bucket: immutable bytes under a prefix, by names that are never given twice.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_bucket::HeadBucketError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration,
};
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use tidegate_runtime::store::{ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

use crate::failure;

/// Bytes of one part of an upload, which are held in memory.
const PART: usize = 8 << 20;

/// A bucket, and what the keys in it begin with.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) s3: Client,
    pub(crate) name: String,
    pub(crate) prefix: String,
}

impl Bucket {
    /// The key of a blob.
    pub(crate) fn key(&self, blob: &str) -> String {
        format!("{}{blob}", self.prefix)
    }

    /// Writes a blob in one go.
    pub(crate) async fn put(&self, blob: &str, value: Bytes) -> Result<(), StoreError> {
        let put = self.s3.put_object().bucket(&self.name).key(self.key(blob));
        let sent = put.body(ByteStream::from(value)).send().await;
        sent.map(drop).map_err(failure::of("S3"))
    }

    /// Reads a blob, or bytes of it: from the first to the last one.
    pub(crate) async fn get(&self, blob: &str, range: Option<(u64, u64)>) -> Result<Bytes, StoreError> {
        let range = range.map(|(first, last)| format!("bytes={first}-{last}"));
        let get = self.s3.get_object().bucket(&self.name).key(self.key(blob));
        let found = get.set_range(range).send().await.map_err(failure::of("S3"))?;
        let body = found.body.collect().await;
        Ok(body
            .map_err(|error| StoreError(format!("S3: `{blob}` broke off: {error}")))?
            .into_bytes())
    }

    /// Bytes of a blob; none where there is none.
    pub(crate) async fn size(&self, blob: &str) -> Result<Option<u64>, StoreError> {
        let head = self.s3.head_object().bucket(&self.name).key(self.key(blob));
        match head.send().await {
            Ok(found) => Ok(Some(found.content_length.unwrap_or_default().unsigned_abs())),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(HeadObjectError::is_not_found) =>
            {
                Ok(None)
            }
            Err(error) => Err(failure::of("S3")(error)),
        }
    }

    /// Removes a blob; one that is gone is no failure.
    pub(crate) async fn remove(&self, blob: &str) -> Result<(), StoreError> {
        let remove = self.s3.delete_object().bucket(&self.name).key(self.key(blob));
        remove.send().await.map(drop).map_err(failure::of("S3"))
    }

    /// Begins to write a blob.
    pub(crate) fn upload(&self, blob: String) -> Upload {
        Upload {
            bucket: self.clone(),
            blob,
            pending: BytesMut::new(),
            digest: Md5::new(),
            size: 0,
            parts: None,
        }
    }

    /// Reads a blob that is known to be there.
    pub(crate) fn reader(&self, blob: &str, meta: ObjectMeta) -> Arc<dyn ObjectReader> {
        Arc::new(Reader {
            bucket: self.clone(),
            blob: blob.to_owned(),
            meta,
        })
    }

    /// Makes the bucket where it is missing.
    pub(crate) async fn prepare(&self) -> Result<(), StoreError> {
        match self.s3.head_bucket().bucket(&self.name).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(HeadBucketError::is_not_found) =>
            {
                self.make().await
            }
            Err(error) => Err(failure::of("S3")(error)),
        }
    }

    async fn make(&self) -> Result<(), StoreError> {
        let region = self.s3.config().region().map(ToString::to_string);
        // The first region must not be named.
        let place = region.filter(|region| region != "us-east-1").map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region.as_str()))
                .build()
        });
        let create = self.s3.create_bucket().bucket(&self.name);
        match create.set_create_bucket_configuration(place).send().await {
            Ok(_) => {
                tracing::info!(bucket = self.name, "made the bucket");
                Ok(())
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_bucket_already_owned_by_you()) =>
            {
                Ok(())
            }
            Err(error) => Err(failure::of("S3")(error)),
        }
    }
}

struct Reader {
    bucket: Bucket,
    blob: String,
    meta: ObjectMeta,
}

#[async_trait]
impl ObjectReader for Reader {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let end = offset.saturating_add(len as u64).min(self.meta.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        self.bucket.get(&self.blob, Some((offset, end - 1))).await
    }
}

/// A blob that is written: in one go where it fits into a part, else as an upload in parts.
pub(crate) struct Upload {
    bucket: Bucket,
    blob: String,
    pending: BytesMut,
    digest: Md5,
    size: u64,
    parts: Option<Parts>,
}

struct Parts {
    upload: String,
    sent: Vec<CompletedPart>,
}

#[async_trait]
impl StageWriter for Upload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.digest.update(&bytes);
        self.size += bytes.len() as u64;
        self.pending.extend_from_slice(&bytes);
        while self.pending.len() > PART {
            let part = self.pending.split_to(PART).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Staged, StoreError> {
        let last = self.pending.split().freeze();
        if self.parts.is_none() {
            self.bucket.put(&self.blob, last).await?;
        } else {
            self.send(last).await?;
            self.complete().await?;
        }
        let digest = std::mem::take(&mut self.digest).finalize();
        Ok(Staged {
            blob: self.blob.clone(),
            size: self.size,
            etag: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl Upload {
    async fn send(&mut self, part: Bytes) -> Result<(), StoreError> {
        if self.parts.is_none() {
            self.parts = Some(self.begin().await?);
        }
        let Some(parts) = &mut self.parts else {
            return Ok(());
        };
        let number = parts.sent.len() as i32 + 1;
        let send = self.bucket.s3.upload_part().bucket(&self.bucket.name);
        let send = send
            .key(self.bucket.key(&self.blob))
            .upload_id(&parts.upload)
            .part_number(number);
        let sent = send.body(ByteStream::from(part)).send().await;
        let sent = sent.map_err(failure::of("S3"))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        parts.sent.push(part.build());
        Ok(())
    }

    async fn begin(&self) -> Result<Parts, StoreError> {
        let begin = self.bucket.s3.create_multipart_upload().bucket(&self.bucket.name);
        let begun = begin.key(self.bucket.key(&self.blob)).send().await;
        let id = begun.map_err(failure::of("S3"))?.upload_id;
        Ok(Parts {
            upload: id.ok_or_else(|| StoreError("S3: an upload without an id".into()))?,
            sent: Vec::new(),
        })
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        let Some(parts) = self.parts.take() else {
            return Ok(());
        };
        let sent = CompletedMultipartUpload::builder().set_parts(Some(parts.sent));
        let complete = self.bucket.s3.complete_multipart_upload();
        let complete = complete
            .bucket(&self.bucket.name)
            .key(self.bucket.key(&self.blob))
            .upload_id(parts.upload);
        let completed = complete.multipart_upload(sent.build()).send().await;
        completed.map(drop).map_err(failure::of("S3"))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        let (bucket, key) = (self.bucket.clone(), self.bucket.key(&self.blob));
        // Where this fails, the bucket's own rule for uploads that are not completed removes the parts.
        tokio::spawn(async move {
            let abort = bucket.s3.abort_multipart_upload().bucket(&bucket.name);
            let aborted = abort.key(key).upload_id(parts.upload).send().await;
            if let Err(error) = aborted.map_err(failure::of("S3")) {
                tracing::warn!(%error, "an upload that was dropped is not given up");
            }
        });
    }
}
