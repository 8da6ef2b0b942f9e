//! The embedded store: one folder with a database for state, index and queues, and a file for each blob, unless the
//! blobs are to lie elsewhere.
//!
//! A commit goes to the [`writer`], which checks it, puts it with others in one [`group`], syncs the
//! database's journal once and answers them all. Claims are served from [`queue`] heads in memory; objects
//! are rows of an index that name immutable [`blobs`].

mod backup;
mod blobs;
mod cache;
mod files;
mod group;
mod janitor;
mod lanes;
mod opening;
mod queue;
mod reads;
mod refill;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use fjall::{Database, Keyspace, PersistMode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use self::backup::LAYOUT;
pub use self::opening::OpenError;
pub use self::refill::{refill, refill_beside};

use self::backup::Moment;
use self::blobs::Blobs;
use self::cache::RowCache;
use self::group::Prepared;
use self::janitor::Chore;
use self::queue::Queues;
use self::writer::Request;
use super::{
    CommitError, Delivery, Depots, Depth, Frozen, ObjectMeta, ObjectReader, Order, Page, Receipt,
    StageWriter, Staged, Store, StoreError, Unit, Versioned,
};
use crate::clock::{Clock, SystemClock};

/// Where the counter of versions, sequencers and places is, in `meta`.
const COUNTER: &str = "counter";
/// Units that wait for the writer at most; more wait outside.
const WAITING_UNITS: usize = 1024;
/// Chores that wait for the janitor at most.
const WAITING_CHORES: usize = 1024;
/// Pages up to this many entries are read on the caller's thread.
const INLINE_PAGE: usize = 32;
/// Tries to open an object that is overwritten all the time.
const OPEN_TRIES: usize = 16;

/// The store of one machine, in a folder.
pub struct Embedded {
    core: Arc<Core>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
    chores: SyncSender<Chore>,
    threads: Mutex<Option<[JoinHandle<()>; 2]>>,
}

/// What the threads share.
struct Core {
    db: Database,
    state: Keyspace,
    cache: RowCache,
    ready: Keyspace,
    delayed: Keyspace,
    objects: Keyspace,
    meta: Keyspace,
    queues: Queues,
    blobs: Arc<Blobs>,
    clock: Arc<dyn Clock>,
    /// Why the database takes no write any more.
    failed: watch::Sender<Option<StoreError>>,
    /// Locked while the store is open.
    _lock: File,
}

impl Embedded {
    /// Opens the store in a folder, which is created if need be.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::start(dir, None, Arc::new(SystemClock))
    }

    /// Opens the store with the bytes of its objects in another place than the folder.
    pub fn open_beside(dir: &Path, depots: &dyn Depots) -> Result<Self, OpenError> {
        Self::start(dir, Some(depots), Arc::new(SystemClock))
    }

    /// Opens the store by another clock.
    pub fn open_with_clock(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::start(dir, None, clock)
    }

    fn start(dir: &Path, depots: Option<&dyn Depots>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let (core, counter) = Core::open(dir, depots, clock)?;
        let core = Arc::new(core);
        let (requests, inbox) = mpsc::channel(WAITING_UNITS);
        let (chores, to_do) = sync_channel(WAITING_CHORES);
        let stop = CancellationToken::new();
        let io = |source| OpenError::Io {
            dir: dir.into(),
            source,
        };
        let janitor = janitor::start(core.clone(), requests.clone(), to_do, stop.clone()).map_err(io)?;
        let writer = writer::start(core.clone(), counter, inbox, chores.clone(), stop.clone()).map_err(io)?;
        Ok(Self {
            core,
            requests,
            stop,
            chores,
            threads: Mutex::new(Some([writer, janitor])),
        })
    }

    /// Tells when the database has failed. A write that the disk did not take leaves the journal in doubt, so that
    /// no later one is taken either: only a new start, which reads the journal again, goes on.
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.core.failed.subscribe()
    }

    /// Commits what was sent, and stops. Commits fail from now on; the folder is free once the store is dropped.
    pub fn close(&self) {
        let Some(threads) = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        self.stop.cancel();
        // The janitor may have gone already.
        let _ = self.chores.send(Chore::Stop);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        if let Err(error) = self.core.db.persist(PersistMode::SyncAll) {
            tracing::error!(%error, "the journal is not synced at the end");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl Embedded {
    /// Reads a page: a small one here, a large one where it may block.
    async fn read_page<T: Send + 'static>(
        &self,
        limit: usize,
        read: impl FnOnce(&Core) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if limit <= INLINE_PAGE {
            return read(&self.core);
        }
        let core = self.core.clone();
        tokio::task::spawn_blocking(move || read(&core))
            .await
            .map_err(StoreError::new)?
    }
}

#[async_trait]
impl Store for Embedded {
    async fn commit(&self, unit: Unit) -> Result<(), CommitError> {
        let closed = || StoreError("the store is closed".into());
        let (done, result) = oneshot::channel();
        let request = Request {
            unit: Prepared::new(unit)?,
            done,
        };
        self.requests.send(request).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }

    async fn get(&self, table: &str, key: &str) -> Result<Option<Versioned>, StoreError> {
        let rows = self.core.get_many(table, std::slice::from_ref(&key.to_owned()))?;
        Ok(rows.into_iter().next().flatten())
    }

    async fn get_many(&self, table: &str, keys: &[String]) -> Result<Vec<Option<Versioned>>, StoreError> {
        self.core.get_many(table, keys)
    }

    async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError> {
        let (table, prefix, after) = (table.to_owned(), prefix.to_owned(), after.map(str::to_owned));
        self.read_page(limit, move |core| {
            core.query(&table, &prefix, after.as_deref(), limit, order)
        })
        .await
    }

    async fn claim(&self, queue: &str, max: usize, wait: Duration) -> Result<Vec<Delivery>, StoreError> {
        rows::check_name(queue)?;
        self.core
            .queues
            .queue(queue)
            .claim(&self.core.source(queue), max, wait)
            .await
    }

    async fn unclaim(&self, receipts: &[Receipt]) -> Result<(), StoreError> {
        self.core.queues.give_back(receipts);
        Ok(())
    }

    async fn depth(&self, queue: &str) -> Result<Depth, StoreError> {
        Ok(self
            .core
            .queues
            .existing(queue)
            .map(|queue| queue.depth())
            .unwrap_or_default())
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        Ok(self.core.object(bucket, key)?.map(|object| object.meta))
    }

    async fn open(&self, bucket: &str, key: &str) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        for _ in 0..OPEN_TRIES {
            let Some(object) = self.core.object(bucket, key)? else {
                return Ok(None);
            };
            // Overwritten between the two reads, its blob may be gone.
            if let Some(reader) = self.core.blobs.read(&object.blob, object.meta)? {
                return Ok(Some(reader));
            }
        }
        Err(StoreError(format!("the bytes of `{bucket}/{key}` are missing")))
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError> {
        let (bucket, prefix, after) = (bucket.to_owned(), prefix.to_owned(), after.map(str::to_owned));
        self.read_page(limit, move |core| {
            core.list(&bucket, &prefix, after.as_deref(), limit)
        })
        .await
    }

    async fn stage(&self) -> Result<Box<dyn StageWriter>, StoreError> {
        Ok(self.core.blobs.stage(self.core.clock.now_ms()))
    }

    async fn open_staged(&self, staged: &Staged) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let meta = ObjectMeta {
            key: String::new(),
            size: staged.size,
            etag: staged.etag.clone(),
            content_type: None,
            modified: self.core.clock.now_ms(),
            sequencer: 0,
            user: Default::default(),
        };
        let reader = self.core.blobs.read(&staged.blob, meta)?;
        reader.ok_or_else(|| StoreError(format!("staged blob `{}` is gone", staged.blob.escape_debug())))
    }

    async fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, StoreError> {
        let moment = Moment::new(self.core.clone(), self.chores.clone());
        Ok(Some(Box::new(moment)))
    }
}
