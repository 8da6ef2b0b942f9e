//! Objects in buckets: ranged and streamed reads, staged writes, listings.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::tidegate::function::objects as host;
use crate::blocking;
use crate::{Error, Failure};

pub use host::Meta;

/// Bytes of one step of a stream.
pub const CHUNK: usize = 1 << 20;
/// Bytes of one call to the host, at most.
pub(crate) const CALL: usize = 4 << 20;
/// Objects of one page of a listing.
const PAGE: u32 = 1000;

/// One version of an object: a later overwrite does not change what it reads.
pub struct Reader {
    inner: host::Reader,
    meta: Meta,
}

impl Reader {
    /// What is known of the object.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The object's length in bytes.
    pub fn size(&self) -> u64 {
        self.meta.size
    }

    /// `len` bytes from `offset`; fewer only at the end of the object.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = self.inner.read_at(offset, len.min(CALL) as u32).await?;
        while bytes.len() < len {
            let wanted = (len - bytes.len()).min(CALL) as u32;
            let more = self.inner.read_at(offset + bytes.len() as u64, wanted).await?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// The object from its beginning, a mebibyte at a time.
    pub fn stream(self) -> ObjectRead {
        ObjectRead {
            reader: self,
            offset: 0,
        }
    }

    /// The whole object, where it is no longer than `limit` bytes.
    pub async fn bytes(&self, limit: u64) -> Result<Vec<u8>, Error> {
        let (key, size) = (&self.meta.key, self.meta.size);
        if size > limit {
            return Err(Error::Limit(format!(
                "object `{key}` holds {size} bytes, allowed are {limit}"
            )));
        }
        self.read_at(0, size as usize).await
    }

    /// The same object for libraries that read synchronously.
    pub fn blocking(self) -> blocking::Reader {
        blocking::Reader::new(self.inner, self.meta)
    }
}

/// An object read from its beginning to its end.
pub struct ObjectRead {
    reader: Reader,
    offset: u64,
}

impl ObjectRead {
    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.reader.inner.read_at(self.offset, CHUNK as u32).await?;
        self.offset += bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// The object that is read.
    pub fn meta(&self) -> &Meta {
        &self.reader.meta
    }
}

/// An object being written, in calls of a mebibyte. Dropped without [`Writer::finish`], it never existed.
pub struct Writer {
    inner: host::Writer,
    buffer: Vec<u8>,
}

impl Writer {
    /// Appends any number of bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Stages the object for publication when the invocation commits.
    pub async fn finish(mut self) -> Result<Meta, Error> {
        self.flush().await?;
        self.inner.finish().await
    }

    /// The same object for libraries that write synchronously.
    pub fn blocking(self) -> blocking::Writer {
        blocking::Writer::new(self.inner, self.buffer)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        for part in self.buffer.chunks(CALL) {
            self.inner.write(part.to_vec()).await?;
        }
        self.buffer.clear();
        Ok(())
    }
}

/// What is known of an object.
pub async fn head(bucket: &str, key: &str) -> Result<Meta, Error> {
    host::head(bucket.to_owned(), key.to_owned()).await
}

/// Opens an object.
pub async fn open(bucket: &str, key: &str) -> Result<Reader, Error> {
    let inner = host::open(bucket.to_owned(), key.to_owned()).await?;
    let meta = inner.meta();
    Ok(Reader { inner, meta })
}

/// Opens an object, where it exists.
pub async fn open_if_exists(bucket: &str, key: &str) -> Result<Option<Reader>, Error> {
    match open(bucket, key).await {
        Ok(reader) => Ok(Some(reader)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads an object of at most `limit` bytes as JSON.
pub async fn read_json<T: DeserializeOwned>(bucket: &str, key: &str, limit: u64) -> Result<T, Failure> {
    let bytes = open(bucket, key).await?.bytes(limit).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::reject(format!("object `{bucket}/{key}`: {error}")))
}

/// Begins an object.
pub async fn create(bucket: &str, key: &str, content_type: Option<&str>) -> Result<Writer, Error> {
    let inner = host::create(bucket.to_owned(), key.to_owned(), content_type.map(str::to_owned)).await?;
    Ok(Writer {
        inner,
        buffer: Vec::new(),
    })
}

/// Writes a whole object.
pub async fn put(bucket: &str, key: &str, content_type: Option<&str>, bytes: &[u8]) -> Result<Meta, Error> {
    let mut writer = create(bucket, key, content_type).await?;
    writer.write(bytes).await?;
    writer.finish().await
}

/// Writes a value as a JSON object.
pub async fn put_json(bucket: &str, key: &str, value: &(impl Serialize + ?Sized)) -> Result<Meta, Failure> {
    let bytes = serde_json::to_vec_pretty(value)?;
    Ok(put(bucket, key, Some("application/json"), &bytes).await?)
}

/// Stages the removal of an object; removing what does not exist is no error.
pub fn delete(bucket: &str, key: &str) -> Result<(), Error> {
    host::delete(bucket, key)
}

/// The objects whose keys start with `prefix`, in byte order.
pub fn list(bucket: &str, prefix: &str) -> Listing {
    Listing {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        after: None,
        page: Vec::new().into_iter(),
        complete: false,
    }
}

/// A listing, fetched page by page.
pub struct Listing {
    bucket: String,
    prefix: String,
    after: Option<String>,
    page: std::vec::IntoIter<Meta>,
    complete: bool,
}

impl Listing {
    /// The next object; none at the end.
    pub async fn next(&mut self) -> Result<Option<Meta>, Error> {
        loop {
            if let Some(meta) = self.page.next() {
                return Ok(Some(meta));
            }
            if self.complete {
                return Ok(None);
            }
            let (bucket, prefix) = (self.bucket.clone(), self.prefix.clone());
            let page = host::list_page(bucket, prefix, self.after.take(), PAGE).await?;
            self.complete = page.next.is_none();
            self.after = page.next;
            self.page = page.objects.into_iter();
        }
    }

    /// All of them.
    pub async fn all(mut self) -> Result<Vec<Meta>, Error> {
        let mut found = Vec::new();
        while let Some(meta) = self.next().await? {
            found.push(meta);
        }
        Ok(found)
    }
}
