//! Blobs: immutable bytes in the bucket, by names that are never given twice.
//!
//! What is staged has a row until a unit publishes it, by which the sweep finds what nobody published. A blob that is
//! replaced is removed a while later, so that whoever reads it reads it to its end.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use tidegate_runtime::store::{ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

use crate::attached::{Outside, OutsideReader};
use crate::failure;
use crate::items::number;
use crate::keys;
use crate::store::Core;

/// Bytes of one part of an upload, which are held in memory.
const PART: usize = 8 << 20;

/// The key of a blob in the bucket.
pub(crate) fn place(name: &str) -> String {
    format!("blobs/{name}")
}

impl Core {
    /// Writes a blob in one go.
    pub(crate) async fn put_blob(&self, name: &str, value: Bytes) -> Result<(), StoreError> {
        let put = self
            .s3
            .put_object()
            .bucket(&self.settings.bucket)
            .key(place(name));
        let sent = put.body(ByteStream::from(value)).send().await;
        sent.map(drop).map_err(failure::of("S3"))
    }

    /// Reads a blob, or bytes of it: from the first to the last one.
    pub(crate) async fn get_blob(&self, name: &str, range: Option<(u64, u64)>) -> Result<Bytes, StoreError> {
        let range = range.map(|(first, last)| format!("bytes={first}-{last}"));
        let get = self
            .s3
            .get_object()
            .bucket(&self.settings.bucket)
            .key(place(name));
        let found = get.set_range(range).send().await.map_err(failure::of("S3"))?;
        let body = found.body.collect().await;
        Ok(body
            .map_err(|error| StoreError(format!("S3: `{name}` broke off: {error}")))?
            .into_bytes())
    }

    /// Removes a blob; one that is gone is no failure.
    pub(crate) async fn remove_blob(&self, name: &str) -> Result<(), StoreError> {
        let remove = self
            .s3
            .delete_object()
            .bucket(&self.settings.bucket)
            .key(place(name));
        remove.send().await.map(drop).map_err(failure::of("S3"))
    }

    /// Notes that bytes are on their way into the bucket, before they are there.
    pub(crate) async fn note_staged(&self, name: &str) -> Result<(), StoreError> {
        let put = self.dynamo.put_item().table_name(&self.settings.table);
        let put = put
            .set_item(Some(keys::staged(name).item()))
            .item("at", number(self.now()));
        put.send().await.map(drop).map_err(failure::of("DynamoDB"))
    }

    pub(crate) fn stage(self: &Arc<Self>) -> Box<dyn StageWriter> {
        Box::new(Stage {
            name: self.new_id(),
            core: self.clone(),
            pending: BytesMut::new(),
            digest: Md5::new(),
            size: 0,
            upload: None,
        })
    }

    /// Opens a blob that is staged.
    pub(crate) async fn open_staged(
        self: &Arc<Self>,
        staged: &Staged,
    ) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let gone = || StoreError(format!("staged blob `{}` is gone", staged.blob.escape_debug()));
        ulid::Ulid::from_string(&staged.blob).map_err(|_| gone())?;
        let row = self.row(&keys::staged(&staged.blob)).await?;
        row.ok_or_else(gone)?;
        let meta = ObjectMeta {
            key: String::new(),
            size: staged.size,
            etag: staged.etag.clone(),
            content_type: None,
            modified: self.now(),
            sequencer: 0,
            user: Default::default(),
        };
        Ok(self.reader(&staged.blob, meta))
    }

    /// Reads a blob that is known to be there, or bytes that lie outside.
    pub(crate) fn reader(self: &Arc<Self>, blob: &str, meta: ObjectMeta) -> Arc<dyn ObjectReader> {
        if let Some(outside) = Outside::read(blob) {
            return Arc::new(OutsideReader::new(self.clone(), outside, meta));
        }
        Arc::new(Reader {
            core: self.clone(),
            blob: blob.to_owned(),
            meta,
        })
    }
}

struct Reader {
    core: Arc<Core>,
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
        self.core.get_blob(&self.blob, Some((offset, end - 1))).await
    }
}

/// Bytes being staged: in one go where they fit into a part, else as an upload in parts.
struct Stage {
    core: Arc<Core>,
    name: String,
    pending: BytesMut,
    digest: Md5,
    size: u64,
    upload: Option<Upload>,
}

struct Upload {
    id: String,
    parts: Vec<CompletedPart>,
}

#[async_trait]
impl StageWriter for Stage {
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
        if self.upload.is_none() {
            self.core.note_staged(&self.name).await?;
            self.core.put_blob(&self.name, last).await?;
        } else {
            self.send(last).await?;
            self.complete().await?;
        }
        let digest = std::mem::take(&mut self.digest).finalize();
        Ok(Staged {
            blob: self.name.clone(),
            size: self.size,
            etag: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl Stage {
    async fn send(&mut self, part: Bytes) -> Result<(), StoreError> {
        if self.upload.is_none() {
            self.upload = Some(self.begin().await?);
        }
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let number = upload.parts.len() as i32 + 1;
        let send = self.core.s3.upload_part().bucket(&self.core.settings.bucket);
        let send = send
            .key(place(&self.name))
            .upload_id(&upload.id)
            .part_number(number);
        let sent = send.body(ByteStream::from(part)).send().await;
        let sent = sent.map_err(failure::of("S3"))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
        upload.parts.push(part.build());
        Ok(())
    }

    async fn begin(&self) -> Result<Upload, StoreError> {
        self.core.note_staged(&self.name).await?;
        let begin = self
            .core
            .s3
            .create_multipart_upload()
            .bucket(&self.core.settings.bucket);
        let begun = begin.key(place(&self.name)).send().await;
        let id = begun.map_err(failure::of("S3"))?.upload_id;
        Ok(Upload {
            id: id.ok_or_else(|| StoreError("S3: an upload without an id".into()))?,
            parts: Vec::new(),
        })
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        let Some(upload) = self.upload.take() else {
            return Ok(());
        };
        let parts = CompletedMultipartUpload::builder().set_parts(Some(upload.parts));
        let complete = self
            .core
            .s3
            .complete_multipart_upload()
            .bucket(&self.core.settings.bucket);
        let complete = complete.key(place(&self.name)).upload_id(upload.id);
        let completed = complete.multipart_upload(parts.build()).send().await;
        completed.map(drop).map_err(failure::of("S3"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else {
            return;
        };
        let (core, key) = (self.core.clone(), place(&self.name));
        // Where this fails, the bucket's own rule for uploads that are not completed removes the parts.
        tokio::spawn(async move {
            let abort = core.s3.abort_multipart_upload().bucket(&core.settings.bucket);
            let aborted = abort.key(key).upload_id(upload.id).send().await;
            if let Err(error) = aborted.map_err(failure::of("S3")) {
                tracing::warn!(%error, "an upload that was dropped is not given up");
            }
        });
    }
}
