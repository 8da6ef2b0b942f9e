//! Tables of interactions and items: columns in memory, and Parquet over any source or sink of bytes.

mod catalog;
mod column;
mod hash;
mod interactions;
mod read;
mod source;
mod stage;
mod write;

pub use catalog::{Item, ItemsWriter, read_items};
pub use column::{Column, TextColumn};
pub use hash::{FastHash, FastMap, FastSet, hash64};
pub use interactions::{COLUMNS, Interaction, Interactions};
pub use read::{InteractionsReader, ROWS_PER_BATCH};
pub use source::{Chunks, Source, Stream};
pub use stage::{MemorySink, MemoryStage, Stage};
pub use write::{InteractionsWriter, properties};

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The bytes could not be fetched or stored: not the table's fault.
    #[error("{0}")]
    Io(std::io::Error),
    /// The bytes are no Parquet file, or not all of one.
    #[error("the Parquet file cannot be read: {0}")]
    Parquet(String),
    /// The columns are not those of the table.
    #[error("{0}")]
    Schema(String),
}

impl From<std::io::Error> for TableError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// An I/O error that passed through `parquet` comes out as it was.
impl From<parquet::errors::ParquetError> for TableError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        use parquet::errors::ParquetError::{EOF, External, General};
        match error {
            External(inner) => match inner.downcast::<std::io::Error>() {
                Ok(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => Self::Parquet(io.to_string()),
                Ok(io) => Self::Io(*io),
                Err(other) => Self::Parquet(other.to_string()),
            },
            General(text) | EOF(text) => Self::Parquet(text),
            other => Self::Parquet(other.to_string()),
        }
    }
}
