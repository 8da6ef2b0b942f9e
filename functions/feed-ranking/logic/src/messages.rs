//! The events that the steps of the app send each other.

use serde::{Deserialize, Serialize};

/// A file of a dataset and the rows in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The key in the bucket `data`.
    pub key: String,
    /// Rows.
    pub rows: u64,
}

/// The version of an object that a dataset was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The entity tag.
    pub etag: String,
}

/// `GenerateRequested`: what is set here goes before the function's variables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateRequested {
    /// Users, numbered from 0.
    pub users: Option<u32>,
    /// Items, numbered from 0.
    pub items: Option<u32>,
    /// Rows.
    pub interactions: Option<u64>,
    /// Days that the rows span.
    pub days: Option<u32>,
    /// The same seed gives the same rows.
    pub seed: Option<u64>,
    /// `csv`, `jsonl` or `parquet`.
    pub format: Option<String>,
}

/// `DataReady`: an uploaded file is in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReady {
    /// The dataset's id.
    pub dataset: String,
    /// Rows taken in.
    pub rows: u64,
    /// Rows that could not be read.
    pub skipped: u64,
    /// The files in `staging/`.
    pub files: Vec<DataFile>,
    /// What they were made of.
    pub source: SourceObject,
}

/// `CatalogReady`: an uploaded file was an item catalogue and is in `catalog/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogReady {
    /// The file.
    pub key: String,
    /// Items taken in.
    pub rows: u64,
    /// Rows that could not be read.
    pub skipped: u64,
    /// What it was made of.
    pub source: SourceObject,
}

/// `DataValidated`: the dataset passed its suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataValidated {
    /// The dataset's id.
    pub dataset: String,
    /// Rows that passed.
    pub rows: u64,
    /// Rows in quarantine.
    pub quarantined: u64,
    /// The files in `validated/`.
    pub files: Vec<DataFile>,
    /// The report's key.
    pub report: String,
}

/// `DataRejected`: the dataset did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRejected {
    /// The dataset's id.
    pub dataset: String,
    /// One reason for each expectation that was not met.
    pub reasons: Vec<String>,
    /// The report's key.
    pub report: String,
}
