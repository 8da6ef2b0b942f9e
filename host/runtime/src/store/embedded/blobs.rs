//! Blobs: immutable files with the bytes of objects, written once, named by a row of the index or removed.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::store::{ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

/// Bytes gathered before they go to the file.
const BUFFER: usize = 1 << 20;
/// Reads up to this size are done on the caller's thread.
const INLINE_READ: usize = 16 * 1024;
/// Blobs that are remembered at most, to be removed when nobody reads what the store was any more.
const MOST_KEPT: usize = 100_000;
/// The length of a blob's name: twelve hex digits of the start of the store, twelve of a counter.
const NAME: usize = 24;

/// The folder of the blobs.
pub(super) struct Blobs {
    dir: PathBuf,
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
    /// Opens the folder, with all its subfolders.
    pub(super) fn open(dir: PathBuf, start: u64) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        for shard in 0..=u8::MAX {
            let shard = dir.join(format!("{shard:02x}"));
            if !shard.is_dir() {
                fs::create_dir(shard)?;
            }
        }
        sync_dir(&dir)?;
        Ok(Self {
            dir,
            start,
            next: AtomicU64::new(0),
            staged: Mutex::default(),
            kept: Mutex::default(),
        })
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

    /// Removes every file that `published` does not name.
    pub(super) fn sweep(&self, published: &HashSet<String>) -> io::Result<u64> {
        let mut removed = 0;
        for shard in fs::read_dir(&self.dir)? {
            for file in fs::read_dir(shard?.path())? {
                let file = file?;
                if file
                    .file_name()
                    .to_str()
                    .is_none_or(|name| !published.contains(name))
                {
                    fs::remove_file(file.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Where a blob is.
    pub(super) fn path(&self, blob: &str) -> Result<PathBuf, StoreError> {
        if blob.len() != NAME || !blob.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(StoreError(format!("`{}` names no blob", blob.escape_debug())));
        }
        Ok(self.dir.join(&blob[NAME - 2..]).join(blob))
    }

    /// Opens a blob; none when it was removed.
    pub(super) fn read(
        &self,
        blob: &str,
        meta: ObjectMeta,
    ) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        match File::open(self.path(blob)?) {
            Ok(file) => Ok(Some(Arc::new(Reader {
                file: Arc::new(file),
                meta,
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::new(error)),
        }
    }

    /// Begins a blob.
    pub(super) fn stage(self: &Arc<Self>, now: u64) -> Box<dyn StageWriter> {
        Box::new(Stage {
            partial: Some(Partial::new(self.clone())),
            now,
        })
    }

    /// Removes a blob, if it is still there. Readers that hold it go on.
    pub(super) fn remove(&self, blob: &str) {
        if self.stays(blob) {
            return;
        }
        let removed = self.path(blob).map(fs::remove_file);
        if let Ok(Err(error)) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(blob, %error, "a blob is not removed, the next start will");
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

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

struct Reader {
    file: Arc<File>,
    meta: ObjectMeta,
}

#[async_trait]
impl ObjectReader for Reader {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let rest = self.meta.size.saturating_sub(offset);
        let len = usize::try_from(rest).map_or(len, |rest| rest.min(len));
        let file = self.file.clone();
        let read = move || {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, offset).map_err(StoreError::new)?;
            Ok(Bytes::from(bytes))
        };
        match len {
            0 => Ok(Bytes::new()),
            1..=INLINE_READ => read(),
            _ => blocking(read).await,
        }
    }
}

struct Stage {
    /// None after a write that failed or was cancelled.
    partial: Option<Partial>,
    now: u64,
}

#[async_trait]
impl StageWriter for Stage {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut partial = self.partial.take().ok_or_else(interrupted)?;
        partial.push(bytes);
        if partial.buffered >= BUFFER {
            partial = blocking(move || partial.flush().map(|()| partial).map_err(StoreError::new)).await?;
        }
        self.partial = Some(partial);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Staged, StoreError> {
        let partial = self.partial.take().ok_or_else(interrupted)?;
        let now = self.now;
        blocking(move || partial.finish(now)).await
    }
}

fn interrupted() -> StoreError {
    StoreError("an earlier write of this object did not end".into())
}

/// Runs file work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(StoreError::new)?
}

/// A blob in the making; dropped, it leaves no file.
struct Partial {
    blobs: Arc<Blobs>,
    name: String,
    file: Option<File>,
    buffer: Vec<Bytes>,
    buffered: usize,
    size: u64,
    digest: Md5,
}

impl Partial {
    fn new(blobs: Arc<Blobs>) -> Self {
        let name = format!(
            "{:012x}{:012x}",
            blobs.start,
            blobs.next.fetch_add(1, Ordering::Relaxed)
        );
        Self {
            blobs,
            name,
            file: None,
            buffer: Vec::new(),
            buffered: 0,
            size: 0,
            digest: Md5::new(),
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.buffered += bytes.len();
        self.size += bytes.len() as u64;
        self.buffer.push(bytes);
    }

    /// Writes what was gathered.
    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create_new(
                self.blobs.path(&self.name).map_err(io::Error::other)?,
            )?),
        };
        for bytes in self.buffer.drain(..) {
            self.digest.update(&bytes);
            file.write_all(&bytes)?;
        }
        self.buffered = 0;
        Ok(())
    }

    fn finish(mut self, now: u64) -> Result<Staged, StoreError> {
        self.flush().and_then(|()| self.sync()).map_err(StoreError::new)?;
        self.file = None;
        let digest = std::mem::take(&mut self.digest).finalize();
        let etag = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.blobs.put_back(self.name.clone(), now);
        Ok(Staged {
            blob: self.name.clone(),
            size: self.size,
            etag,
        })
    }

    /// Makes the bytes and the name durable.
    fn sync(&self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        let path = self.blobs.path(&self.name).map_err(io::Error::other)?;
        path.parent().map_or(Ok(()), sync_dir)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.blobs.remove(&self.name);
        }
    }
}
