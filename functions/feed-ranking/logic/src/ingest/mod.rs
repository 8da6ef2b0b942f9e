//! Ingest: an uploaded file of CSV, JSON Lines or Parquet becomes the table of interactions in `staging/`,
//! partitioned by date, or the item catalogue.
//!
//! The file is read once, from its beginning to its end, and memory stays flat in its size: rows are held in
//! bounded batches (`partition`), what cannot be read goes to a bounded quarantine (`quarantine`).

mod catalog;
mod csv;
mod decode;
mod format;
mod intake;
mod jsonl;
mod mapping;
mod pages;
mod parquet;
mod partition;
mod quarantine;
mod sample;
mod settings;
mod values;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::messages::{CatalogReady, DataReady, SourceObject};
use crate::table::{Source, Stage, TableError};

pub use partition::Partitioning;
pub use settings::{ClickRule, Settings};

use format::Format;
use intake::Intake;
use mapping::Table;

/// The share of malformed rows that a file may have.
pub const MALFORMED_SHARE: f64 = 0.2;

/// Why a file was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The bytes could not be fetched or stored: worth another try.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is not acceptable and will not become so.
    #[error("{0}")]
    Rejected(String),
}

impl From<TableError> for IngestError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Io(error) => Self::Io(error),
            other => Self::Rejected(other.to_string()),
        }
    }
}

/// What a file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Interactions, now in `staging/`.
    Interactions(DataReady),
    /// An item catalogue, now in `catalog/`.
    Catalog(CatalogReady),
}

/// The id of the dataset that is made of this version of an object.
pub fn dataset_id(source: &SourceObject) -> String {
    let digest = Sha256::new()
        .chain_update(&source.etag)
        .chain_update([0])
        .chain_update(&source.key)
        .finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Takes a file in. Errors name the file.
pub fn ingest<S: Source + 'static, T: Stage>(
    bytes: Arc<S>,
    object: &SourceObject,
    settings: &Settings,
    stage: &mut T,
) -> Result<Outcome, IngestError> {
    run(bytes, object, settings, stage).map_err(|error| match error {
        IngestError::Rejected(reason) => {
            IngestError::Rejected(format!("`{}/{}`: {reason}", object.bucket, object.key))
        }
        io => io,
    })
}

fn run<S: Source + 'static, T: Stage>(
    bytes: Arc<S>,
    object: &SourceObject,
    settings: &Settings,
    stage: &mut T,
) -> Result<Outcome, IngestError> {
    let format = format::detect(bytes.as_ref(), &object.key)?;
    let columns = match format {
        Format::Csv { delimiter } => csv::header(&bytes, delimiter)?,
        Format::JsonLines => jsonl::keys(&bytes)?,
        Format::Parquet => parquet::columns(&bytes)?,
    };
    let table = Table::of(&columns, settings)?;
    let span = match table {
        Table::Interactions(_) => sample::span(&bytes, format, &columns, settings)?,
        Table::Items(_) => None,
    };
    let mut intake = Intake::new(object, table, settings, span, bytes.size(), stage)?;
    match format {
        Format::Csv { delimiter } => csv::read(&bytes, delimiter, &mut intake)?,
        Format::JsonLines => jsonl::read(&bytes, &mut intake)?,
        Format::Parquet => parquet::read(&bytes, &mut intake)?,
    }
    intake.finish()
}
