//! Long work for the worker pool.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::tidegate::function::jobs;
use crate::{Error, Failure};

pub use jobs::{Phase, Status};

/// A job to submit: `Job::new("train.two-tower", "ModelTrained").reads("data/features/").submit(&config)?`.
#[derive(Clone, Debug)]
pub struct Job {
    submission: jobs::Submission,
    terms: Option<jobs::Terms>,
    part: bool,
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
        Self {
            submission,
            terms: None,
            part: false,
        }
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

    /// Has it leased before jobs of a lower priority, from -100 to 100; 0 otherwise.
    pub fn priority(mut self, priority: i32) -> Self {
        self.terms().priority = priority;
        self
    }

    /// Leaves it to workers with this kind of device, `cpu` or `cuda`.
    pub fn device(mut self, kind: &str) -> Self {
        self.terms().device = Some(kind.to_owned());
        self
    }

    /// Leaves it to workers whose device has so many bytes of memory.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.terms().memory = Some(bytes);
        self
    }

    /// Leaves it to workers that have so many such devices, from 1 to 64.
    pub fn devices(mut self, count: u32) -> Self {
        self.terms().devices = Some(count);
        self
    }

    /// How long it may take from its first lease, all attempts together.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.terms().timeout_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How often it is tried, from 1 to 100; 10 times otherwise.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.terms().attempts = Some(attempts);
        self
    }

    /// Makes its end one more part of the join that the handled event is a part of: see [`events::join`](crate::events::join).
    pub fn part(mut self) -> Self {
        self.part = true;
        self
    }

    fn terms(&mut self) -> &mut jobs::Terms {
        self.terms.get_or_insert(jobs::Terms {
            priority: 0,
            device: None,
            memory: None,
            devices: None,
            timeout_ms: None,
            attempts: None,
        })
    }

    /// Stages the submission; returns the job's id. A retried event never submits twice.
    pub fn submit(mut self, config: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
        self.submission.config = serde_json::to_string(config)?;
        if self.part {
            let terms = self.terms().clone();
            return Ok(jobs::submit_part(&self.submission, &terms)?);
        }
        Ok(match &self.terms {
            None => jobs::submit(&self.submission)?,
            Some(terms) => jobs::submit_on(&self.submission, terms)?,
        })
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
