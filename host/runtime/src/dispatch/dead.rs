//! Dead letters: events that a function will not be tried with again, with all that is known of why.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::effects::done_key;
use crate::event::Event;
use crate::records::LogLine;
use crate::sandbox::Failure;
use crate::store::{Condition, StateWrite};

/// The table of dead letters.
pub const DEAD: &str = "$dead";

/// In which way the last attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The guest asked to be tried again, or a condition of its writes did not hold.
    Retry,
    /// The guest refused the event for good.
    Reject,
    /// The guest reached a limit.
    Limit,
    /// The guest trapped.
    Trap,
}

impl FailureKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Limit => "limit",
            Self::Trap => "trap",
        }
    }
}

impl From<&Failure> for FailureKind {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Retry { .. } => Self::Retry,
            Failure::Reject(_) => Self::Reject,
            Failure::Limit(_) => Self::Limit,
            Failure::Trap(_) => Self::Trap,
        }
    }
}

/// A dead letter, or a paused step, which is one that waits to be resumed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The function that did not handle it.
    pub function: String,
    /// Why.
    pub reason: String,
    /// In which way the last attempt failed.
    pub kind: FailureKind,
    /// The attempts.
    pub attempts: u32,
    /// When it died, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Whether the run is paused here, because the function's policy says so.
    #[serde(default)]
    pub paused: bool,
    /// What the last attempt logged.
    #[serde(default)]
    pub logs: Vec<LogLine>,
    /// The event, with its trace context.
    pub event: Arc<Event>,
}

impl DeadLetter {
    /// What it is called by: `FUNCTION/EVENT`. A function's handling of an event ends once, so there is one.
    pub fn id(&self) -> String {
        done_key(&self.function, &self.event.id)
    }

    /// The row that keeps it.
    pub(super) fn write(&self) -> StateWrite {
        let value = serde_json::to_vec(self).map(Bytes::from).unwrap_or_default();
        StateWrite {
            table: DEAD.into(),
            key: self.id(),
            value: Some(value),
            condition: Condition::Absent,
        }
    }
}
