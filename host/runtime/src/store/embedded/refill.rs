//! A back-up becomes a store: in a folder beside the store's place, which takes that place when all is in it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::backup::Line;
use super::blobs::check_name;
use super::files::{Files, blocking, sync_dir};
use super::opening::{lock, new_depot};
use crate::store::{Depot, Depots, Extent, Refill, RefillError, StoreError};

/// The keyspaces that a line may name.
const KEYSPACES: [&str; 5] = ["meta", "state", "ready", "delayed", "objects"];
/// Bytes of a blob that are in memory at one time.
const PIECE: u64 = 1 << 20;

/// Begins to make a store in the place of `dir`, which holds nothing. What an earlier try left is removed.
pub fn refill(dir: &Path) -> Result<Box<dyn Refill>, RefillError> {
    begin(dir, None)
}

/// The same, with the bytes of its objects in another place than the folder.
pub fn refill_beside(dir: &Path, depots: &dyn Depots) -> Result<Box<dyn Refill>, RefillError> {
    begin(dir, Some(depots))
}

fn begin(dir: &Path, depots: Option<&dyn Depots>) -> Result<Box<dyn Refill>, RefillError> {
    let unusable = |error: &dyn std::fmt::Display| RefillError::Unusable(error.to_string());
    let holds_something = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something {
        return Err(RefillError::Taken(format!("`{}`", dir.display())));
    }
    let made = dir.with_extension("restoring");
    fs::create_dir_all(&made).map_err(|error| unusable(&error))?;
    let lock = lock(&made).map_err(|error| unusable(&error))?;
    let opened = Refilled::open(dir, made, depots, lock);
    Ok(Box::new(opened.map_err(|error| unusable(&error))?))
}

/// A store in the making.
struct Refilled {
    /// Where it will be.
    place: PathBuf,
    made: PathBuf,
    db: Database,
    depot: Arc<dyn Depot>,
    _lock: File,
}

impl Refilled {
    fn open(
        place: &Path,
        made: PathBuf,
        depots: Option<&dyn Depots>,
        lock: File,
    ) -> Result<Self, StoreError> {
        for left in [made.join("db"), made.join("blobs")] {
            match fs::remove_dir_all(&left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::new(error)),
                _ => {}
            }
        }
        let db = Database::builder(made.join("db"))
            .open()
            .map_err(StoreError::new)?;
        let depot: Arc<dyn Depot> = match depots {
            Some(depots) => new_depot(depots, &keyspace(&db, "meta")?)?,
            None => Arc::new(Files::open(made.join("blobs")).map_err(StoreError::new)?),
        };
        Ok(Self {
            place: place.to_owned(),
            made,
            db,
            depot,
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
        check_name(name)?;
        let mut writer = self.depot.begin(name.to_owned());
        let mut done = 0;
        while done < bytes.len {
            let (file, offset, len) = (
                bytes.file.to_owned(),
                bytes.offset + done,
                PIECE.min(bytes.len - done),
            );
            let piece = blocking(move || read(&file, offset, len).map_err(StoreError::new)).await?;
            writer.write(piece).await?;
            done += len;
        }
        writer.finish().await.map(drop)
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
        let keyspace = keyspace(db, name)?;
        let bytes = |text: &str| STANDARD.decode(text).map_err(StoreError::new);
        batch.insert(&keyspace, bytes(&line.key)?, bytes(&line.value)?);
    }
    batch.commit().map_err(StoreError::new)
}

fn keyspace(db: &Database, name: &str) -> Result<Keyspace, StoreError> {
    db.keyspace(name, KeyspaceCreateOptions::default)
        .map_err(StoreError::new)
}

fn read(file: &Path, offset: u64, len: u64) -> io::Result<Bytes> {
    let mut from = File::open(file)?;
    from.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes.into())
}
