//! Back-ups: all that a store holds at one moment, as lines of rows and the bytes they name; and the way back.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::{ObjectReader, StoreError};

/// A store at one moment, read part by part while the store goes on.
///
/// # Contract
/// - Every unit that was committed before the moment is in it as a whole, and nothing of any later one.
/// - A store that is made of it goes on as after a crash at that moment: what was handed out is handed out again, and
///   what was done is not done again.
#[async_trait]
pub trait Frozen: Send + Sync {
    /// The back-end and its layout, such as `embedded-1`: only the same takes it back.
    fn layout(&self) -> &'static str;

    /// The moment, in milliseconds since the epoch.
    fn moment(&self) -> u64;

    /// The next rows; none at the end. Only then is it certain that all of them are of one moment.
    async fn next(&mut self) -> Result<Option<Part>, StoreError>;

    /// Opens bytes that a part names; they stay for as long as this does.
    async fn blob(&self, name: &str) -> Result<Arc<dyn ObjectReader>, StoreError>;
}

/// Some of the rows, and the names of the bytes that they speak of.
#[derive(Debug, Default)]
pub struct Part {
    /// A row each, in JSON without a line's end.
    pub rows: Vec<String>,
    /// Blobs, each named once.
    pub blobs: Vec<String>,
}

/// An empty store that takes in a back-up. Until [`Refill::finish`], no host works on it.
#[async_trait]
pub trait Refill: Send {
    /// Takes rows in.
    async fn rows(&mut self, rows: Vec<String>) -> Result<(), StoreError>;

    /// Takes the bytes of a blob in.
    async fn blob(&mut self, name: &str, bytes: Extent<'_>) -> Result<(), StoreError>;

    /// Makes it durable, and a store that hosts may open.
    async fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// Bytes within a file.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'f> {
    /// The file.
    pub file: &'f Path,
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
}

/// Why a store takes no back-up in.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    /// Something is there that would be written over.
    #[error("{0} is not empty; a back-up is restored into an empty store only")]
    Taken(String),
    /// It cannot be made.
    #[error("{0}")]
    Unusable(String),
}
