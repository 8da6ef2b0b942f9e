//! Opening the store: the folder is taken, its layout checked, and what a crash left behind put in order.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::sync::watch;

use super::blobs::Blobs;
use super::cache::RowCache;
use super::queue::Queues;
use super::rows::{ObjectRow, decode_counter, split_delayed};
use super::{COUNTER, Core};
use crate::clock::Clock;
use crate::store::StoreError;

/// The layout of the folder that this code reads and writes.
const FORMAT: u64 = 1;
/// Where the layout's number is, in `meta`.
pub(super) const FORMAT_KEY: &str = "format";
/// The cache of the database, in bytes.
const CACHE: u64 = 64 << 20;
/// Rows of the state that were read lately, kept in memory, in bytes.
const ROWS: u64 = 64 << 20;
/// The journal, in bytes, that a start after a crash may have to read again.
const JOURNAL: u64 = 128 << 20;
/// Rows held in memory before they are written out, for each keyspace, in bytes.
const MEMTABLE: u64 = 16 << 20;

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

impl Core {
    /// Opens the folder; returns the counter to go on with.
    pub(super) fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<(Self, u64), OpenError> {
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
                failed: watch::Sender::new(None),
                _lock: lock,
            },
            counter,
        ))
    }
}

/// Takes the folder for this process.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
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
pub(super) fn published_blobs(objects: &Keyspace) -> Result<HashSet<String>, StoreError> {
    objects
        .iter()
        .map(|row| Ok(ObjectRow::decode(&row.value().map_err(StoreError::new)?)?.blob))
        .collect()
}
