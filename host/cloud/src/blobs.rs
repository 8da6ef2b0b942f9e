//! Blobs that are staged, and those that are read.
//!
//! What is staged has a row until a unit publishes it, by which the sweep finds what nobody published. A blob that is
//! replaced is removed a while later, so that whoever reads it reads it to its end.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_runtime::store::{ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

use crate::attached::{Outside, OutsideReader};
use crate::bucket::Upload;
use crate::failure;
use crate::items::number;
use crate::keys;
use crate::store::Core;

impl Core {
    /// Notes that bytes are on their way into the bucket, before they are there.
    pub(crate) async fn note_staged(&self, name: &str) -> Result<(), StoreError> {
        let put = self.dynamo.put_item().table_name(&self.settings.table);
        let put = put
            .set_item(Some(keys::staged(name).item()))
            .item("at", number(self.now()));
        put.send().await.map(drop).map_err(failure::of("DynamoDB"))
    }

    pub(crate) fn stage(self: &Arc<Self>) -> Box<dyn StageWriter> {
        let name = self.new_id();
        Box::new(Stage {
            upload: Box::new(self.blobs.upload(name.clone())),
            core: self.clone(),
            to_note: Some(name),
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
        self.blobs.reader(blob, meta)
    }
}

/// Bytes being staged, which are noted before the first of them may be in the bucket.
struct Stage {
    core: Arc<Core>,
    upload: Box<Upload>,
    /// The name, until it is noted.
    to_note: Option<String>,
}

impl Stage {
    async fn note(&mut self) -> Result<(), StoreError> {
        if let Some(name) = &self.to_note {
            self.core.note_staged(name).await?;
            self.to_note = None;
        }
        Ok(())
    }
}

#[async_trait]
impl StageWriter for Stage {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.note().await?;
        self.upload.write(bytes).await
    }

    async fn finish(mut self: Box<Self>) -> Result<Staged, StoreError> {
        self.note().await?;
        self.upload.finish().await
    }
}
