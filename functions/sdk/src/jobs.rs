//! Long work for the worker pool.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::tidegate::function::jobs;
use crate::{Error, Failure};

pub use jobs::{Phase, Status};

/// A job to submit: `Job::new("train.two-tower", "ModelTrained").reads("data/features/").submit(&config)?`.
#[derive(Clone, Debug)]
pub struct Job {
    submission: jobs::Submission,
}

impl Job {
    /// A job of this kind, whose end emits an event of type `emits`.
    pub fn new(kind: &str, emits: &str) -> Self {
        let submission = jobs::Submission {
            kind: kind.to_owned(),
            config: String::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            emits: emits.to_owned(),
        };
        Self { submission }
    }

    /// Lets the worker read objects under this prefix, `bucket/prefix`.
    pub fn reads(mut self, prefix: impl Into<String>) -> Self {
        self.submission.reads.push(prefix.into());
        self
    }

    /// Lets the worker write objects under this prefix, `bucket/prefix`.
    pub fn writes(mut self, prefix: impl Into<String>) -> Self {
        self.submission.writes.push(prefix.into());
        self
    }

    /// Stages the submission; returns the job's id. A retried event never submits twice.
    pub fn submit(mut self, config: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
        self.submission.config = serde_json::to_string(config)?;
        Ok(jobs::submit(&self.submission)?)
    }
}

impl Status {
    /// The detail: progress while running, outputs when succeeded, the reason when failed.
    pub fn detail<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(serde_json::from_str(&self.detail)?)
    }
}

/// How a job stands.
pub async fn status(id: &str) -> Result<Status, Error> {
    jobs::get_status(id.to_owned()).await
}
