//! Where a step puts the objects that it makes.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// Objects being made, and progress to be seen meanwhile.
///
/// # Contract
/// A sink that is dropped without `finish` leaves no object.
pub trait Stage {
    /// An object being written.
    type Sink: Write + Send;

    /// Begins the object `key` in the bucket `data`.
    fn create(&mut self, key: &str) -> io::Result<Self::Sink>;
    /// Completes an object.
    fn finish(&mut self, sink: Self::Sink) -> io::Result<()>;
    /// Tells that `done` of `total` (0 is unknown) are done.
    fn progress(&mut self, done: u64, total: u64, unit: &str);
}

/// A stage in memory, for tests and native measurements.
#[derive(Debug, Default)]
pub struct MemoryStage {
    /// What was finished, by key.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// How often progress was told.
    pub ticks: u64,
}

/// An object of a [`MemoryStage`].
#[derive(Debug)]
pub struct MemorySink {
    key: String,
    bytes: Vec<u8>,
}

impl Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for MemoryStage {
    type Sink = MemorySink;

    fn create(&mut self, key: &str) -> io::Result<MemorySink> {
        Ok(MemorySink {
            key: key.to_owned(),
            bytes: Vec::new(),
        })
    }

    fn finish(&mut self, sink: MemorySink) -> io::Result<()> {
        self.objects.insert(sink.key, sink.bytes);
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {
        self.ticks += 1;
    }
}
