//! Blobs as files: a folder, with a subfolder for each end of a name.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::blobs::{NAME, check_name};
use crate::store::{Depot, Keep, ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

/// Bytes gathered before they go to the file.
const BUFFER: usize = 1 << 20;
/// Reads up to this size are done on the caller's thread.
const INLINE_READ: usize = 16 * 1024;

/// The folder of the blobs.
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Opens the folder, with all its subfolders.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        for shard in 0..=u8::MAX {
            let shard = dir.join(format!("{shard:02x}"));
            if !shard.is_dir() {
                fs::create_dir(shard)?;
            }
        }
        sync_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Where a blob is.
    fn path(&self, blob: &str) -> Result<PathBuf, StoreError> {
        check_name(blob)?;
        Ok(self.dir.join(&blob[NAME - 2..]).join(blob))
    }
}

#[async_trait]
impl Depot for Files {
    fn begin(&self, name: String) -> Box<dyn StageWriter> {
        Box::new(Stage {
            partial: Some(Partial::new(self.path(&name), name)),
        })
    }

    fn open(&self, blob: &str, meta: ObjectMeta) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        match File::open(self.path(blob)?) {
            Ok(file) => Ok(Some(Arc::new(Reader {
                file: Arc::new(file),
                meta,
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::new(error)),
        }
    }

    async fn size(&self, blob: &str) -> Result<Option<u64>, StoreError> {
        match fs::metadata(self.path(blob)?) {
            Ok(file) => Ok(Some(file.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::new(error)),
        }
    }

    /// Readers that hold the file go on.
    fn remove(&self, blob: &str) {
        if let Ok(path) = self.path(blob) {
            unlink(&path);
        }
    }

    fn sweep(&self, keep: Keep) -> Result<u64, StoreError> {
        sweep(&self.dir, &keep).map_err(StoreError::new)
    }
}

fn sweep(dir: &Path, keep: &Keep) -> io::Result<u64> {
    let mut removed = 0;
    for shard in fs::read_dir(dir)? {
        for file in fs::read_dir(shard?.path())? {
            let file = file?;
            if file.file_name().to_str().is_none_or(|name| !keep(name)) {
                fs::remove_file(file.path())?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn unlink(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a blob is not removed, the next start will");
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
        blocking(move || partial.finish()).await
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
    /// Where it will be, or why that is nowhere.
    path: Result<PathBuf, StoreError>,
    name: String,
    file: Option<File>,
    buffer: Vec<Bytes>,
    buffered: usize,
    size: u64,
    digest: Md5,
}

impl Partial {
    fn new(path: Result<PathBuf, StoreError>, name: String) -> Self {
        Self {
            path,
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

    fn path(&self) -> io::Result<&Path> {
        self.path
            .as_deref()
            .map_err(|error| io::Error::other(error.clone()))
    }

    /// Writes what was gathered.
    fn flush(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::create_new(self.path()?)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        for bytes in self.buffer.drain(..) {
            self.digest.update(&bytes);
            file.write_all(&bytes)?;
        }
        self.buffered = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Staged, StoreError> {
        self.flush().and_then(|()| self.sync()).map_err(StoreError::new)?;
        self.file = None;
        let digest = std::mem::take(&mut self.digest).finalize();
        Ok(Staged {
            blob: std::mem::take(&mut self.name),
            size: self.size,
            etag: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Makes the bytes and the name durable.
    fn sync(&self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        self.path()?.parent().map_or(Ok(()), sync_dir)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let (Some(_), Ok(path)) = (&self.file, &self.path) {
            unlink(path);
        }
    }
}
