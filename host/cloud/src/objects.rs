//! Objects: rows of an index that name blobs.

use std::sync::Arc;

use tidegate_runtime::store::{ObjectMeta, ObjectReader, Order, Page, StoreError};

use crate::items::{Item, text, text_of};
use crate::keys;
use crate::store::Core;

/// An object as its row tells of it.
pub(crate) struct Indexed {
    pub(crate) meta: ObjectMeta,
    pub(crate) blob: String,
}

impl Indexed {
    /// The row, but for its key and its version.
    pub(crate) fn attributes(&self) -> Result<Item, StoreError> {
        let meta = serde_json::to_string(&self.meta).map_err(StoreError::new)?;
        Ok(Item::from([
            ("m".into(), text(&meta)),
            ("blob_at".into(), text(&self.blob)),
        ]))
    }

    pub(crate) fn read(item: &Item) -> Result<Self, StoreError> {
        let meta = text_of(item, "m").unwrap_or_default();
        Ok(Self {
            meta: serde_json::from_str(meta).map_err(StoreError::new)?,
            blob: text_of(item, "blob_at").unwrap_or_default().to_owned(),
        })
    }
}

impl Core {
    pub(crate) async fn object(&self, bucket: &str, key: &str) -> Result<Option<Indexed>, StoreError> {
        let found = self.row(&keys::object(bucket, key)?).await?;
        let found = found.as_ref().map(Indexed::read).transpose()?;
        if let Some(object) = &found {
            self.stamps.saw(object.meta.sequencer);
        }
        Ok(found)
    }

    pub(crate) async fn open(
        self: &Arc<Self>,
        bucket: &str,
        key: &str,
    ) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        let found = self.object(bucket, key).await?;
        Ok(found.map(|Indexed { meta, blob }| self.reader(&blob, meta)))
    }

    pub(crate) async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError> {
        let page = self
            .page(&keys::bucket(bucket), prefix, after, limit, Order::Ascending)
            .await?;
        let metas = page.entries.iter().map(|item| Ok(Indexed::read(item)?.meta));
        Ok(Page {
            entries: metas.collect::<Result<_, StoreError>>()?,
            next: page.next,
        })
    }
}
