//! Where the bytes of objects lie, where that is not the store's own folder.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ObjectMeta, ObjectReader, StageWriter, StoreError};

/// Whether a blob of this name stays.
pub type Keep = Box<dyn Fn(&str) -> bool + Send>;

/// Blobs: immutable bytes, each written once under a name that is never given twice. A depot belongs to one store.
#[async_trait]
pub trait Depot: Send + Sync + 'static {
    /// Begins a blob; it is there for good when the writer has finished, and is not at all when it is dropped.
    fn begin(&self, name: String) -> Box<dyn StageWriter>;

    /// Opens a blob that has this many bytes; none when it was removed. What is opened is read to its end.
    fn open(&self, name: &str, meta: ObjectMeta) -> Result<Option<Arc<dyn ObjectReader>>, StoreError>;

    /// Bytes of a blob; none where there is none.
    async fn size(&self, name: &str) -> Result<Option<u64>, StoreError>;

    /// Removes a blob, now or later; one that is gone is no failure, and what stays the next [`Depot::sweep`] removes.
    fn remove(&self, name: &str);

    /// Removes every blob that need not stay, now or in the background; tells how many are gone already.
    fn sweep(&self, keep: Keep) -> Result<u64, StoreError>;
}

/// A place in which stores can have depots.
pub trait Depots: Send + Sync {
    /// The place as it is told, such as `s3://bucket`.
    fn place(&self) -> String;

    /// The depot of a store that has this name in the place.
    fn of(&self, store: &str) -> Arc<dyn Depot>;
}
