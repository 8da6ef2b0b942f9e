//! Blobs: immutable bytes of objects, written once, named by a row of the index or removed. A depot has them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::{Depot, ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

/// Blobs that are remembered at most, to be removed when nobody reads what the store was any more.
const MOST_KEPT: usize = 100_000;
/// The length of a blob's name: twelve hex digits of the start of the store, twelve of a counter.
pub(super) const NAME: usize = 24;

/// The blobs of the store.
pub(super) struct Blobs {
    depot: Arc<dyn Depot>,
    /// No other start of the store has this number, so no name is ever given twice.
    start: u64,
    next: AtomicU64,
    /// Finished, not published; with the time, in milliseconds since the epoch.
    staged: Mutex<HashMap<String, u64>>,
    kept: Mutex<Kept>,
}

/// Blobs that nobody names any more, and that stay while somebody reads what the store was.
#[derive(Default)]
struct Kept {
    readers: usize,
    blobs: Vec<String>,
}

impl Blobs {
    /// The blobs of a start of the store.
    pub(super) fn new(depot: Arc<dyn Depot>, start: u64) -> Self {
        Self {
            depot,
            start,
            next: AtomicU64::new(0),
            staged: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Keeps every blob from now on, until as many [`Blobs::let_go`].
    pub(super) fn keep_all(&self) {
        self.kept().readers += 1;
    }

    /// Ends one [`Blobs::keep_all`]; the last one gets what is to be removed now.
    pub(super) fn let_go(&self) -> Vec<String> {
        let mut kept = self.kept();
        kept.readers = kept.readers.saturating_sub(1);
        match kept.readers {
            0 => std::mem::take(&mut kept.blobs),
            _ => Vec::new(),
        }
    }

    /// Whether a blob stays for somebody who reads what the store was.
    fn stays(&self, blob: &str) -> bool {
        let mut kept = self.kept();
        if kept.readers == 0 {
            return false;
        }
        // What does not fit is left to the sweep of the next start.
        if kept.blobs.len() < MOST_KEPT {
            kept.blobs.push(blob.to_owned());
        }
        true
    }

    /// Removes what neither `published` names nor this start makes.
    pub(super) fn sweep(&self, published: HashSet<String>) -> Result<u64, StoreError> {
        let start = format!("{:012x}", self.start);
        self.depot.sweep(Box::new(move |name| {
            name.starts_with(&start) || published.contains(name)
        }))
    }

    /// Opens a blob; none when it was removed.
    pub(super) fn read(
        &self,
        blob: &str,
        meta: ObjectMeta,
    ) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        check_name(blob)?;
        self.depot.open(blob, meta)
    }

    /// Bytes of a blob; none when it was removed.
    pub(super) async fn size(&self, blob: &str) -> Result<Option<u64>, StoreError> {
        check_name(blob)?;
        self.depot.size(blob).await
    }

    /// Begins a blob.
    pub(super) fn stage(self: &Arc<Self>, now: u64) -> Box<dyn StageWriter> {
        let counted = self.next.fetch_add(1, Ordering::Relaxed);
        Box::new(Stage {
            writer: self.depot.begin(format!("{:012x}{counted:012x}", self.start)),
            blobs: self.clone(),
            now,
        })
    }

    /// Removes a blob, if it is still there. Readers that hold it go on.
    pub(super) fn remove(&self, blob: &str) {
        if !self.stays(blob) {
            self.depot.remove(blob);
        }
    }

    /// Takes a staged blob to publish it; false when it was published before, or swept.
    pub(super) fn take(&self, blob: &str) -> bool {
        self.staged().remove(blob).is_some()
    }

    /// Undoes [`Blobs::take`].
    pub(super) fn put_back(&self, blob: String, now: u64) {
        self.staged().insert(blob, now);
    }

    /// Takes those that were finished before `time` and never published.
    pub(super) fn take_older_than(&self, time: u64) -> Vec<String> {
        self.staged()
            .extract_if(|_, finished| *finished < time)
            .map(|(blob, _)| blob)
            .collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this may be the name of a blob.
pub(super) fn check_name(blob: &str) -> Result<(), StoreError> {
    if blob.len() == NAME && blob.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(StoreError(format!("`{}` names no blob", blob.escape_debug())))
}

/// A blob that is noted as staged when it is finished.
struct Stage {
    writer: Box<dyn StageWriter>,
    blobs: Arc<Blobs>,
    now: u64,
}

#[async_trait]
impl StageWriter for Stage {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.writer.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<Staged, StoreError> {
        let staged = self.writer.finish().await?;
        self.blobs.put_back(staged.blob.clone(), self.now);
        Ok(staged)
    }
}
