//! Notices: what happens, as it happens, for those who follow.

use serde::{Deserialize, Serialize};

use super::Level;
use crate::event::Event;
use crate::sandbox::Usage;

/// What a notice tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// An event entered the platform.
    Event,
    /// A function began to handle an event.
    Started,
    /// A step or a job tells how far it is.
    Progress,
    /// A step failed and will be tried again.
    Retry,
    /// A step's effects are committed.
    Done,
    /// A step will not be tried again.
    Dead,
    /// A step will not be tried again before it is resumed by hand.
    Paused,
    /// A job changed its phase.
    Job,
    /// A log line.
    Log,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notice {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The run.
    pub run: String,
    /// The event's id; a job's id for [`NoticeKind::Job`].
    pub event: String,
    /// What it tells of.
    pub kind: NoticeKind,
    /// The event's type; a job's kind for [`NoticeKind::Job`].
    #[serde(rename = "type")]
    pub event_type: String,
    /// The function, or the worker of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The version of the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The event's subject; a job's phase for [`NoticeKind::Job`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The event that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How long the step took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// What the step took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Of how much; none when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// In what unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How much a log line matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The event's data, where it is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

impl Notice {
    /// A notice about an event, with the fields that every such notice has.
    pub fn about(event: &Event, kind: NoticeKind, at: u64) -> Self {
        Self {
            at,
            run: event.run.clone(),
            event: event.id.clone(),
            kind,
            event_type: event.kind.clone(),
            function: None,
            version: None,
            subject: event.subject.clone(),
            parent: event.parent.clone(),
            attempt: None,
            duration_ms: None,
            usage: None,
            reason: None,
            done: None,
            total: None,
            unit: None,
            level: None,
            message: None,
            data: None,
        }
    }

    /// A notice that an event entered, with its data.
    pub fn entered(event: &Event, at: u64) -> Self {
        let data = serde_json::from_slice(&event.data).ok();
        Self {
            data,
            ..Self::about(event, NoticeKind::Event, at)
        }
    }
}
