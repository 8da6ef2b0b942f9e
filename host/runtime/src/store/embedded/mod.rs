//! The embedded store: one folder with a database for state, index and queues, and a file for each blob.
//!
//! A commit goes to the [`writer`], which checks it, puts it with others in one [`group`], syncs the
//! database's journal once and answers them all. Claims are served from [`queue`] heads in memory; objects
//! are rows of an index that name immutable [`blobs`].

mod blobs;
mod cache;
mod group;
mod janitor;
mod queue;
mod reads;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::blobs::Blobs;
use self::cache::RowCache;
use self::group::Prepared;
use self::janitor::Chore;
use self::queue::Queues;
use self::rows::{ObjectRow, decode_counter, split_delayed};
use self::writer::Request;
use super::{
    CommitError, Delivery, Depth, ObjectMeta, ObjectReader, Order, Page, Receipt, StageWriter, Staged, Store,
    StoreError, Unit, Versioned,
};
use crate::clock::{Clock, SystemClock};

/// The layout of the folder that this code reads and writes.
const FORMAT: u64 = 1;
/// Where the layout's number is, in `meta`.
const FORMAT_KEY: &str = "format";
/// Where the counter of versions, sequencers and places is, in `meta`.
const COUNTER: &str = "counter";
/// Units that wait for the writer at most; more wait outside.
const WAITING_UNITS: usize = 1024;
/// Chores that wait for the janitor at most.
const WAITING_CHORES: usize = 1024;
/// The cache of the database, in bytes.
const CACHE: u64 = 64 << 20;
/// Rows of the state that were read lately, kept in memory, in bytes.
const ROWS: u64 = 64 << 20;
/// The journal, in bytes, that a start after a crash may have to read again.
const JOURNAL: u64 = 128 << 20;
/// Rows held in memory before they are written out, for each keyspace, in bytes.
const MEMTABLE: u64 = 16 << 20;
/// Pages up to this many entries are read on the caller's thread.
const INLINE_PAGE: usize = 32;
/// Tries to open an object that is overwritten all the time.
const OPEN_TRIES: usize = 16;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes cannot share a folder.
    #[error("another tidegate uses `{}`", .0.display())]
    InUse(PathBuf),
    /// The folder was written by another version of Tidegate.
    #[error("`{}` has layout {found}, this tidegate reads {FORMAT}", .dir.display())]
    Format {
        /// The folder.
        dir: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// The folder cannot be used.
    #[error("cannot use `{}`", .dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the database in `{}`", .dir.display())]
    Database {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: fjall::Error,
    },
    /// The database holds what this code cannot read.
    #[error("cannot read the database")]
    Rows(#[from] StoreError),
}

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
    /// Locked while the store is open.
    _lock: File,
}

impl Embedded {
    /// Opens the store in a folder, which is created if need be.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with_clock(dir, Arc::new(SystemClock))
    }

    /// Opens the store by another clock.
    pub fn open_with_clock(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let (core, counter) = Core::open(dir, clock)?;
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

impl Core {
    /// Opens the folder; returns the counter to go on with.
    fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<(Self, u64), OpenError> {
        let io = |source| OpenError::Io {
            dir: dir.into(),
            source,
        };
        let database = |source| OpenError::Database {
            dir: dir.into(),
            source,
        };
        fs::create_dir_all(dir).map_err(io)?;
        let lock = lock(dir)?;
        let db = Database::builder(dir.join("db"))
            .cache_size(CACHE)
            .max_journaling_size(JOURNAL)
            .open()
            .map_err(database)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let keyspace = |name| db.keyspace(name, options).map_err(database);
        let meta = keyspace("meta")?;
        let counter = begin(dir, &db, &meta)?;
        let (objects, ready, delayed) = (keyspace("objects")?, keyspace("ready")?, keyspace("delayed")?);
        let state = keyspace("state")?;
        let queues = Queues::recover(&ready)?;
        count_delayed(&delayed, &queues)?;
        let blobs = Arc::new(Blobs::open(dir.join("blobs"), counter).map_err(io)?);
        let removed = blobs.sweep(&published_blobs(&objects)?).map_err(io)?;
        if removed > 0 {
            tracing::info!(removed, "blobs that no object names are removed");
        }
        Ok((
            Self {
                db,
                state,
                cache: RowCache::new(ROWS),
                ready,
                delayed,
                objects,
                meta,
                queues,
                blobs,
                clock,
                _lock: lock,
            },
            counter,
        ))
    }
}

/// Takes the folder for this process.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io {
        dir: dir.into(),
        source,
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.into())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Checks the layout and counts this start, durably, so that no blob's name is ever given twice.
fn begin(dir: &Path, db: &Database, meta: &Keyspace) -> Result<u64, OpenError> {
    let database = |source| OpenError::Database {
        dir: dir.into(),
        source,
    };
    let read = |key| {
        meta.get(key)
            .map_err(database)?
            .map(|row| decode_counter(&row))
            .transpose()
            .map_err(OpenError::Rows)
    };
    let found = read(FORMAT_KEY)?.unwrap_or(FORMAT);
    if found != FORMAT {
        return Err(OpenError::Format {
            dir: dir.into(),
            found,
        });
    }
    let counter = read(COUNTER)?.unwrap_or_default() + 1;
    let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(meta, FORMAT_KEY, FORMAT.to_be_bytes());
    batch.insert(meta, COUNTER, counter.to_be_bytes());
    batch.commit().map_err(database)?;
    Ok(counter)
}

fn count_delayed(delayed: &Keyspace, queues: &Queues) -> Result<(), StoreError> {
    for row in delayed.iter() {
        let row = row.value().map_err(StoreError::new)?;
        queues.queue(split_delayed(&row)?.0).count_delayed(1);
    }
    Ok(())
}

/// The blobs that objects name.
fn published_blobs(objects: &Keyspace) -> Result<HashSet<String>, StoreError> {
    objects
        .iter()
        .map(|row| Ok(ObjectRow::decode(&row.value().map_err(StoreError::new)?)?.blob))
        .collect()
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
            .claim(queue, &self.core.ready, max, wait)
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
}
