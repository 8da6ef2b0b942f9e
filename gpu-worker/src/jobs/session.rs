//! What a running job may use, and how it may end: the seam between a kind of job and the protocol it came by.

use std::fs::File;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Why a job did not complete; one variant per answer to the host.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The job cannot succeed as it is: failed for good.
    #[error("{0}")]
    Invalid(String),
    /// The loss is no number any more: failed for good, as another attempt would come to the same.
    #[error("the loss is {loss} in step {step} of epoch {epoch}; a smaller `learning_rate` may help")]
    Diverged {
        /// What it is.
        loss: f64,
        /// The epoch, from 1.
        epoch: usize,
        /// The step, from 1.
        step: usize,
    },
    /// The job would take more memory than there is: failed for good, before it took any.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The job's own program did not end well: failed for good, as the program says what is worth another attempt.
    #[error("command `{command}` ended with {status}: {last}")]
    Program {
        /// The command's name.
        command: String,
        /// How it ended: an exit status or a signal.
        status: String,
        /// The last that it complained of.
        last: String,
    },
    /// Something around the job failed: worth another attempt.
    #[error("{0}")]
    Transient(String),
    /// The lease is lost, the job was cancelled or the worker ends: stop at once, report nothing.
    #[error("abandoned")]
    Abandoned,
}

/// How far a job is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, as far as known.
    pub total: u64,
    /// What is counted.
    pub unit: &'static str,
    /// One line for people.
    pub message: String,
    /// Measured so far.
    pub metrics: serde_json::Map<String, serde_json::Value>,
    /// The latest epochs, each with its metrics.
    pub history: Vec<serde_json::Value>,
}

/// A registered version of a model, and where its file lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The bucket of its file.
    pub bucket: String,
    /// The key of its file.
    pub key: String,
}

/// A variant of a registered version that a job has written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Variant<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The version that it is a variant of.
    pub of: &'a str,
    /// The bucket of its file.
    pub bucket: &'a str,
    /// The key of its file.
    pub key: &'a str,
    /// The alias that it gets.
    pub alias: &'a str,
    /// What was measured of it.
    pub metrics: serde_json::Map<String, serde_json::Value>,
    /// How it was made.
    pub parameters: serde_json::Value,
}

/// The world of one running job. Calls block; a job runs on a thread of its own.
///
/// # Contract
///
/// `save_checkpoint` replaces the last checkpoint whole or not at all, and `load_checkpoint` of a later attempt
/// at the same job returns the last one saved. After `abandoned` turned true, it stays true.
pub trait Session {
    /// The whole of an object.
    fn read(&self, bucket: &str, key: &str) -> Result<Bytes, JobError>;
    /// An object in a temporary file of its own, for what may be larger than memory.
    fn download(&self, bucket: &str, key: &str) -> Result<File, JobError>;
    /// Writes an object.
    fn write(&self, bucket: &str, key: &str, content: Bytes) -> Result<(), JobError>;
    /// Writes an object that may be larger than memory, from its beginning.
    fn upload(&self, bucket: &str, key: &str, content: &File) -> Result<(), JobError>;
    /// The keys under a prefix that come after `after`, in order: some of them, none at the end.
    fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Vec<String>, JobError>;
    /// The version that a reference such as `churn`, `churn@candidate` or `churn@3` stands for now.
    fn model(&self, reference: &str) -> Result<Registered, JobError>;
    /// Registers a variant as the model's next version, once for a job; the version.
    fn register(&self, variant: &Variant<'_>) -> Result<u64, JobError>;
    /// What an earlier attempt left.
    fn load_checkpoint(&self) -> Result<Option<Bytes>, JobError>;
    /// Keeps `content` for a later attempt.
    fn save_checkpoint(&self, content: Bytes) -> Result<(), JobError>;
    /// Shows how far the job is; cheap, called often.
    fn report(&self, progress: Progress);
    /// Whether the job should stop with [`JobError::Abandoned`].
    fn abandoned(&self) -> bool;
}
