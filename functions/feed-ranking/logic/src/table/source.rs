//! Where bytes come from: an object in a sandbox, a file or a buffer in a test.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// Bytes at any offset.
///
/// # Contract
/// `read_at` gives `len` bytes, fewer only at the end, and none at or past it; the bytes never change.
pub trait Source: Send + Sync {
    /// The length in bytes.
    fn size(&self) -> u64;
    /// `len` bytes from `offset`; fewer only at the end.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

impl Source for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let end = start.saturating_add(len).min(self.len());
        Ok(self.slice(start..end).to_vec())
    }
}

/// A file, for native runs.
impl Source for File {
    fn size(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = self.try_clone()?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(len);
        file.take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A source read from some offset on.
pub struct Stream<S: ?Sized> {
    source: Arc<S>,
    offset: u64,
}

impl<S: Source + ?Sized> Stream<S> {
    /// Reads from `offset` on.
    pub fn new(source: Arc<S>, offset: u64) -> Self {
        Self { source, offset }
    }
}

impl<S: Source + ?Sized> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read_at(self.offset, buffer.len())?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.offset += count as u64;
        Ok(count)
    }
}

/// A source as `parquet` reads it: page by page, so that memory is bounded by a page and not by a row group.
pub struct Chunks<S: ?Sized>(pub Arc<S>);

/// Bytes of the window in which page headers are read.
const WINDOW: usize = 64 << 10;

impl<S: ?Sized> Clone for Chunks<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Source + ?Sized> Length for Chunks<S> {
    fn len(&self) -> u64 {
        self.0.size()
    }
}

impl<S: Source + ?Sized> ChunkReader for Chunks<S> {
    type T = BufReader<Stream<S>>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::with_capacity(
            WINDOW,
            Stream::new(self.0.clone(), start),
        ))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.0.read_at(start, length)?;
        if bytes.len() < length {
            let found = bytes.len();
            return Err(ParquetError::EOF(format!(
                "found {found} of {length} bytes at offset {start}: the file is cut short"
            )));
        }
        Ok(bytes.into())
    }
}
