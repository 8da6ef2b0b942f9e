//! What the host tells of events, steps and runs, as far as those who watch it from outside read it.

use serde::Deserialize;
use serde_json::Value;

/// One line of the stream of notices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// Milliseconds since 1970.
    pub at: u64,
    /// The run it belongs to.
    pub run: String,
    /// The event it belongs to.
    pub event: String,
    /// The function, where one is concerned.
    pub function: Option<String>,
    /// `event`, `started`, `progress`, `retry`, `done`, `dead`, `job`, ...
    pub kind: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The event's subject.
    pub subject: Option<String>,
    /// The event that caused this one.
    pub parent: Option<String>,
    /// The attempt, from 1.
    pub attempt: Option<u32>,
    /// How long the step took.
    pub duration_ms: Option<f64>,
    /// What the step took.
    pub usage: Option<Usage>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Units done so far.
    pub done: Option<u64>,
    /// Units in all.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Option<String>,
    /// What is being done.
    pub message: Option<String>,
    /// The event's data.
    pub data: Option<Value>,
}

/// What an invocation took.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// From nothing to an instance that is ready for its first instruction.
    pub start_ms: f64,
    /// How long it computed.
    pub cpu_ms: f64,
}

/// A run: everything that one outside event caused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Its id.
    pub run: String,
    /// The type of its first event.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The subject of its first event.
    pub subject: Option<String>,
    /// `running`, `done`, `dead` or `paused`; told by the list of runs.
    pub state: Option<String>,
    /// When its last step ended, in milliseconds since 1970; none while one waits or runs.
    pub finished: Option<u64>,
    /// Its steps, when one run was asked for; a bare count in the list of runs.
    #[serde(deserialize_with = "steps")]
    pub steps: Vec<Step>,
}

/// One function's handling of one event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The event handled.
    pub event: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The function.
    pub function: Option<String>,
    /// `queued`, `running`, `retry`, `done`, `dead`, `paused` or `dropped`.
    pub state: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// The span of its last attempt.
    pub span_id: Option<String>,
    /// The events it emitted.
    pub emitted: Vec<String>,
}

fn steps<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Array(steps) => steps
            .into_iter()
            .map(|step| serde_json::from_value(step).map_err(serde::de::Error::custom))
            .collect(),
        _ => Ok(Vec::new()),
    }
}
