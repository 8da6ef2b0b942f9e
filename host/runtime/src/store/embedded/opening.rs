//! Opening the store: the folder is taken, its layout checked, and what a crash left behind put in order.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::sync::watch;

use super::blobs::Blobs;
use super::cache::RowCache;
use super::files::Files;
use super::queue::Queues;
use super::rows::{ObjectRow, decode_counter, split_delayed};
use super::{COUNTER, Core};
use crate::clock::Clock;
use crate::store::{Depot, Depots, StoreError};

/// The layout of the folder that this code reads and writes.
const FORMAT: u64 = 1;
/// Where the layout's number is, in `meta`.
pub(super) const FORMAT_KEY: &str = "format";
/// Where the bytes of objects lie, in `meta`: the place and the store's name there. No row: in files.
pub(super) const DEPOT_KEY: &str = "depot";
/// What is said of a store whose objects are files.
const IN_FILES: &str = "its folder";
/// The cache of the database, in bytes.
const CACHE: u64 = 64 << 20;
/// Rows of the state that were read lately, kept in memory, in bytes.
const ROWS: u64 = 64 << 20;
/// The journal, in bytes, that a start after a crash may have to read again.
const JOURNAL: u64 = 128 << 20;
/// Rows held in memory before they are written out, for each keyspace, in bytes: with less, commits wait for tables to be
/// written, and rows are merged more often.
const MEMTABLE: u64 = 32 << 20;
/// Threads that write tables out and merge them, at most.
const WRITERS: usize = 4;

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
    /// Its objects are elsewhere than they should be.
    #[error("the objects of the store in `{}` lie in {found}, and are looked for in {wanted}", .dir.display())]
    Objects {
        /// The folder.
        dir: PathBuf,
        /// Where they lie.
        found: String,
        /// Where they are looked for.
        wanted: String,
    },
    /// The database holds what this code cannot read.
    #[error("cannot read the database")]
    Rows(#[from] StoreError),
}

impl Core {
    /// Opens the folder; returns the counter to go on with.
    pub(super) fn open(
        dir: &Path,
        depots: Option<&dyn Depots>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, u64), OpenError> {
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
            .worker_threads(writers())
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
        let depot = match depot_of(dir, depots, &meta, objects.is_empty().map_err(database)?)? {
            Some(depot) => depot,
            None => Arc::new(Files::open(dir.join("blobs")).map_err(io)?),
        };
        let blobs = Arc::new(Blobs::new(depot, counter));
        let removed = blobs.sweep(published_blobs(&objects)?)?;
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

/// How many threads write tables out and merge them. Of several, the first one looks without a pause for what it may do
/// while another one merges: where cores are few, that is one too much.
fn writers() -> usize {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 2 => cores.get().min(WRITERS),
        _ => 1,
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

/// The depot outside of the folder that has the store's objects, or is to have them; none where they are files.
fn depot_of(
    dir: &Path,
    depots: Option<&dyn Depots>,
    meta: &Keyspace,
    empty: bool,
) -> Result<Option<Arc<dyn Depot>>, OpenError> {
    let row = meta.get(DEPOT_KEY).map_err(StoreError::new)?;
    let found = row.map(|row| String::from_utf8_lossy(&row).into_owned());
    let elsewhere = |found: Option<String>| OpenError::Objects {
        dir: dir.into(),
        found: found.map_or_else(|| IN_FILES.to_owned(), |found| format!("`{found}`")),
        wanted: depots.map_or_else(|| IN_FILES.to_owned(), |depots| format!("`{}`", depots.place())),
    };
    match (depots, found) {
        (None, None) => Ok(None),
        (Some(depots), None) if empty => Ok(Some(new_depot(depots, meta)?)),
        (Some(depots), Some(found)) => match found.rsplit_once('/') {
            Some((place, name)) if place == depots.place() => Ok(Some(depots.of(name))),
            _ => Err(elsewhere(Some(found))),
        },
        (_, found) => Err(elsewhere(found)),
    }
}

/// A depot for a store that has none; the row is durable with what is written next.
pub(super) fn new_depot(depots: &dyn Depots, meta: &Keyspace) -> Result<Arc<dyn Depot>, StoreError> {
    let name = ulid::Ulid::new().to_string();
    let row = format!("{}/{name}", depots.place());
    meta.insert(DEPOT_KEY, row).map_err(StoreError::new)?;
    Ok(depots.of(&name))
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
