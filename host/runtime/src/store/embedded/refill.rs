//! A back-up becomes a store: in a folder beside the store's place, which takes that place when all is in it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use super::backup::Line;
use super::blobs::{Blobs, blocking, sync_dir};
use super::opening::lock;
use crate::store::{Extent, Refill, RefillError, StoreError};

/// The keyspaces that a line may name.
const KEYSPACES: [&str; 5] = ["meta", "state", "ready", "delayed", "objects"];

/// Begins to make a store in the place of `dir`, which holds nothing. What an earlier try left is removed.
pub fn refill(dir: &Path) -> Result<Box<dyn Refill>, RefillError> {
    let unusable = |error: &dyn std::fmt::Display| RefillError::Unusable(error.to_string());
    let holds_something = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something {
        return Err(RefillError::Taken(format!("`{}`", dir.display())));
    }
    let made = dir.with_extension("restoring");
    fs::create_dir_all(&made).map_err(|error| unusable(&error))?;
    let lock = lock(&made).map_err(|error| unusable(&error))?;
    let opened = Refilled::open(dir, made, lock);
    Ok(Box::new(opened.map_err(|error| unusable(&error))?))
}

/// A store in the making.
struct Refilled {
    /// Where it will be.
    place: PathBuf,
    made: PathBuf,
    db: Database,
    blobs: std::sync::Arc<Blobs>,
    _lock: File,
}

impl Refilled {
    fn open(place: &Path, made: PathBuf, lock: File) -> Result<Self, StoreError> {
        for left in [made.join("db"), made.join("blobs")] {
            match fs::remove_dir_all(&left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::new(error)),
                _ => {}
            }
        }
        let db = Database::builder(made.join("db"))
            .open()
            .map_err(StoreError::new)?;
        let blobs = Blobs::open(made.join("blobs"), 0).map_err(StoreError::new)?;
        Ok(Self {
            place: place.to_owned(),
            made,
            db,
            blobs: blobs.into(),
            _lock: lock,
        })
    }
}

#[async_trait]
impl Refill for Refilled {
    async fn rows(&mut self, rows: Vec<String>) -> Result<(), StoreError> {
        let db = self.db.clone();
        blocking(move || insert(&db, &rows)).await
    }

    async fn blob(&mut self, name: &str, bytes: Extent<'_>) -> Result<(), StoreError> {
        let to = self.blobs.path(name)?;
        let (file, offset, len) = (bytes.file.to_owned(), bytes.offset, bytes.len);
        blocking(move || copy(&file, offset, len, &to).map_err(StoreError::new)).await
    }

    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        blocking(move || self.take_place()).await
    }
}

impl Refilled {
    fn take_place(self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncAll).map_err(StoreError::new)?;
        let Self { place, made, db, .. } = self;
        drop(db);
        let shards = fs::read_dir(made.join("blobs")).map_err(StoreError::new)?;
        for shard in shards {
            let shard = shard.map_err(StoreError::new)?;
            sync_dir(&shard.path()).map_err(StoreError::new)?;
        }
        sync_dir(&made).map_err(StoreError::new)?;
        fs::rename(&made, &place).map_err(StoreError::new)?;
        place.parent().map_or(Ok(()), sync_dir).map_err(StoreError::new)
    }
}

fn insert(db: &Database, rows: &[String]) -> Result<(), StoreError> {
    let mut batch = db.batch();
    for row in rows {
        let line: Line = serde_json::from_str(row).map_err(StoreError::new)?;
        let name = KEYSPACES.into_iter().find(|name| *name == line.keyspace);
        let name = name.ok_or_else(|| {
            StoreError(format!(
                "a row is of `{}`, known are `{}`",
                line.keyspace.escape_debug(),
                KEYSPACES.join("`, `")
            ))
        })?;
        let keyspace = db
            .keyspace(name, KeyspaceCreateOptions::default)
            .map_err(StoreError::new)?;
        let bytes = |text: &str| STANDARD.decode(text).map_err(StoreError::new);
        batch.insert(&keyspace, bytes(&line.key)?, bytes(&line.value)?);
    }
    batch.commit().map_err(StoreError::new)
}

fn copy(file: &Path, offset: u64, len: u64, to: &Path) -> io::Result<()> {
    let mut from = File::open(file)?;
    from.seek(SeekFrom::Start(offset))?;
    let mut to = File::create(to)?;
    let copied = io::copy(&mut from.take(len), &mut to)?;
    if copied != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    to.sync_all()
}
