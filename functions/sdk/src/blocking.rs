//! Objects for libraries that read and write synchronously, such as `parquet` and `csv`.
//!
//! The calls are the same as in [`crate::objects`], lowered synchronously: the host suspends the whole
//! component until the answer is there. A function that handles one event at a time loses nothing by it.

use std::io;

use crate::Error;
use crate::bindings::tidegate::function::objects as host;
use crate::objects::{CALL, CHUNK, Meta};

/// Bytes that a writer gathers before it calls the host: little, since a step may write many objects at once.
const WRITE: usize = 256 << 10;

/// The calls that open objects and move bytes, without `async`.
#[allow(missing_docs, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk;
            world blocking {
                import tidegate:function/objects@0.1.0;
            }
        ",
        world: "tidegate:sdk/blocking",
        with: { "tidegate:function/types@0.1.0": crate::bindings::tidegate::function::types },
        async: [
            "-import:tidegate:function/objects@0.1.0#open",
            "-import:tidegate:function/objects@0.1.0#create",
            "-import:tidegate:function/objects@0.1.0#[method]reader.read-at",
            "-import:tidegate:function/objects@0.1.0#[method]writer.write",
            "-import:tidegate:function/objects@0.1.0#[method]writer.finish",
        ],
        generate_all,
    });
}

use bindings::tidegate::function::objects as lowered;

/// Opens an object.
pub fn open(bucket: &str, key: &str) -> Result<Reader, Error> {
    let inner = lowered::open(bucket, key)?;
    let meta = meta(inner.meta());
    Ok(Reader {
        inner,
        meta,
        offset: 0,
    })
}

/// Begins an object.
pub fn create(bucket: &str, key: &str, content_type: Option<&str>) -> Result<Writer, Error> {
    Ok(Writer {
        inner: lowered::create(bucket, key, content_type)?,
        buffer: Vec::new(),
    })
}

fn meta(meta: lowered::Meta) -> Meta {
    let lowered::Meta {
        key,
        size,
        etag,
        content_type,
        modified,
    } = meta;
    Meta {
        key,
        size,
        etag,
        content_type,
        modified,
    }
}

/// One version of an object. Reads at any offset; as [`io::Read`] it goes from the beginning to the end.
pub struct Reader {
    inner: lowered::Reader,
    meta: Meta,
    offset: u64,
}

impl Reader {
    pub(crate) fn new(inner: host::Reader, meta: Meta) -> Self {
        // SAFETY: both types stand for the same resource of the same interface, and the handle moves.
        let inner = unsafe { lowered::Reader::from_handle(inner.take_handle()) };
        Self {
            inner,
            meta,
            offset: 0,
        }
    }

    /// What is known of the object.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// `len` bytes from `offset`; fewer only at the end of the object.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = self.inner.read_at(offset, len.min(CALL) as u32)?;
        while bytes.len() < len {
            let wanted = (len - bytes.len()).min(CALL) as u32;
            let more = self.inner.read_at(offset + bytes.len() as u64, wanted)?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// The next bytes from the beginning on, at most a mebibyte; none at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.inner.read_at(self.offset, CHUNK as u32)?;
        self.offset += bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self
            .inner
            .read_at(self.offset, buffer.len().min(CALL) as u32)
            .map_err(io::Error::other)?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.offset += count as u64;
        Ok(count)
    }
}

/// An object being written, in calls of a quarter mebibyte. Dropped without [`Writer::finish`], it never existed.
pub struct Writer {
    inner: lowered::Writer,
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(inner: host::Writer, buffer: Vec<u8>) -> Self {
        // SAFETY: both types stand for the same resource of the same interface, and the handle moves.
        let inner = unsafe { lowered::Writer::from_handle(inner.take_handle()) };
        Self { inner, buffer }
    }

    /// Stages the object for publication when the invocation commits.
    pub fn finish(mut self) -> Result<Meta, Error> {
        self.drain()?;
        let lowered::Meta {
            key,
            size,
            etag,
            content_type,
            modified,
        } = self.inner.finish()?;
        Ok(Meta {
            key,
            size,
            etag,
            content_type,
            modified,
        })
    }

    fn drain(&mut self) -> Result<(), Error> {
        for part in self.buffer.chunks(CALL) {
            self.inner.write(part)?;
        }
        self.buffer.clear();
        Ok(())
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE {
            self.drain().map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    /// Bytes go to the host in calls of some size whether flushed or not: an object is seen only when finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
