//! A job as it is kept: its row, its step in the run, and the event that tells of its end.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_trace::Context;

use super::{JOBS, Terms};
use crate::effects::Submission;
use crate::event::{Event, Join};
use crate::records::StepRecord;
use crate::store::{Condition, StateWrite, Store, StoreError};

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waits for a worker.
    Queued,
    /// A worker holds it.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended in failure.
    Failed,
    /// Ended by somebody's word.
    Cancelled,
}

impl Phase {
    /// Whether nothing comes after it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// For example `train.two-tower`.
    pub kind: String,
    /// In the words of the kind.
    pub config: Value,
    /// Object prefixes, `bucket/prefix`, that the worker may read.
    pub reads: Vec<String>,
    /// Object prefixes, `bucket/prefix`, that the worker may write.
    pub writes: Vec<String>,
    /// The type of the event that a success emits.
    pub emits: String,
    /// On which terms it is done.
    #[serde(default)]
    pub terms: Terms,
    /// The join that its end is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<Join>,
    /// Whose it is.
    #[serde(default)]
    pub tenant: String,
    /// The run it belongs to.
    pub run: String,
    /// The event whose handling submitted it.
    pub parent: String,
    /// W3C trace context: of what submitted it.
    pub traceparent: String,
    /// Where it is.
    pub phase: Phase,
    /// The attempt, 1 for the first.
    pub attempt: u32,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub created: u64,
    /// When a worker leased it first.
    #[serde(default)]
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// Progress, outputs, or the reason of a failure.
    pub detail: Value,
}

impl Job {
    /// A job as it is submitted for a tenant while an event is handled.
    pub fn submitted(submission: Submission, tenant: &str, handled: &Event, now: u64) -> Self {
        Self {
            id: submission.id,
            kind: submission.kind,
            config: submission.config,
            reads: submission.reads,
            writes: submission.writes,
            emits: submission.emits,
            terms: submission.terms,
            part_of: submission.part_of,
            tenant: tenant.to_owned(),
            run: handled.run.clone(),
            parent: handled.id.clone(),
            traceparent: handled.traceparent.clone(),
            phase: Phase::Queued,
            attempt: 1,
            created: now,
            started: None,
            finished: None,
            detail: Value::Null,
        }
    }

    /// Reads a job.
    pub async fn load(store: &dyn Store, id: &str) -> Result<Option<Self>, StoreError> {
        let found = Self::load_versioned(store, id).await?;
        Ok(found.map(|(job, _version)| job))
    }

    pub(super) async fn load_versioned(
        store: &dyn Store,
        id: &str,
    ) -> Result<Option<(Self, u64)>, StoreError> {
        let Some(row) = store.get(JOBS, id).await? else {
            return Ok(None);
        };
        let job = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
        Ok(Some((job, row.version)))
    }

    /// The row that keeps it.
    pub fn write(&self, condition: Condition) -> StateWrite {
        let value = serde_json::to_vec(self).map(Bytes::from).unwrap_or_default();
        StateWrite {
            table: JOBS.into(),
            key: self.id.clone(),
            value: Some(value),
            condition,
        }
    }

    /// Why it did not end well.
    pub fn reason(&self) -> Option<&str> {
        let unwell = matches!(self.phase, Phase::Failed | Phase::Cancelled);
        self.detail["reason"].as_str().filter(|_| unwell)
    }

    /// Its step in the run.
    pub fn step(&self) -> StepRecord {
        StepRecord::queued(&self.event(), &step_of(&self.kind), self.created)
    }

    /// The job as an event: what stands for it in its run, and in a join.
    pub(crate) fn event(&self) -> Event {
        Event {
            id: self.id.clone(),
            source: "/jobs".into(),
            kind: self.kind.clone(),
            subject: None,
            time: self.created,
            content_type: None,
            data: Bytes::new(),
            traceparent: self.traceparent.clone(),
            run: self.run.clone(),
            parent: Some(self.parent.clone()),
            part_of: self.part_of.clone(),
        }
    }

    /// Where this attempt of it stands in its trace.
    pub fn context(&self) -> Option<Context> {
        let submitted = Context::parse(&self.traceparent)?;
        Some(submitted.below(&["job", &self.id, &self.attempt.to_string()]))
    }

    /// The span of this attempt, as records name it.
    pub(super) fn span_id(&self) -> Option<String> {
        self.context().map(|context| context.span_id())
    }

    /// The event that tells of its end.
    pub(super) fn outcome(&self, kind: &str, data: &Value, now: u64) -> Event {
        Event {
            id: format!("{}-end", self.id),
            source: format!("/jobs/{}", self.kind),
            kind: kind.into(),
            subject: Some(self.id.clone()),
            time: now,
            content_type: Some("application/json".into()),
            data: Bytes::from(data.to_string()),
            traceparent: self
                .context()
                .map(|context| context.to_string())
                .unwrap_or_default(),
            run: self.run.clone(),
            parent: Some(self.id.clone()),
            part_of: self.part_of.clone(),
        }
    }

    /// The prefix of its checkpoints in the bucket [`CHECKPOINTS`](super::CHECKPOINTS).
    pub fn checkpoints(&self) -> String {
        format!("{}/", self.id)
    }
}

/// The function of the step of a job of a kind.
pub(super) fn step_of(kind: &str) -> String {
    format!("job:{kind}")
}
