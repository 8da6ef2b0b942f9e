//! The sandbox's objects as sources and stages: what a component adds to the logic.

use std::io;
use std::sync::Arc;

use tidegate_sdk::{Error, Failure, blocking, log};

use crate::table::{Source, Stage, TableError};

/// The bucket of the app's data.
pub const BUCKET: &str = "data";

/// An object that is read.
pub struct Object(blocking::Reader);

impl Object {
    /// Opens an object.
    pub fn open(bucket: &str, key: &str) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(blocking::open(bucket, key)?)))
    }

    /// The version's entity tag.
    pub fn etag(&self) -> &str {
        &self.0.meta().etag
    }
}

impl Source for Object {
    fn size(&self) -> u64 {
        self.0.meta().size
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(offset, len).map_err(io::Error::other)
    }
}

/// Objects that are written to the bucket `data`; progress goes to the log.
pub struct Bucket;

impl Stage for Bucket {
    type Sink = blocking::Writer;

    fn create(&mut self, key: &str) -> io::Result<blocking::Writer> {
        blocking::create(BUCKET, key, None).map_err(io::Error::other)
    }

    fn finish(&mut self, sink: blocking::Writer) -> io::Result<()> {
        sink.finish().map(drop).map_err(io::Error::other)
    }

    fn progress(&mut self, done: u64, total: u64, unit: &str) {
        log::progress(done, total, unit);
    }
}

/// A table that cannot be fetched is worth another try, one that cannot be read is not.
impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Io(error) => error.into(),
            other => Self::reject(other.to_string()),
        }
    }
}
