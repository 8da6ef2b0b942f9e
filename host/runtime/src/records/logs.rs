//! Log lines of invocations: bounded while they are gathered, kept with the run.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{LOGS, Records};
use crate::event::Event;
use crate::manifest::Function;
use crate::store::{Condition, Order, StateWrite, StoreError};

/// Invocations with lines that one search looks at.
pub const SEARCHED: usize = 100_000;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finest.
    Trace,
    /// For whoever mends the function.
    Debug,
    /// Normal.
    Info,
    /// Look at this.
    Warn,
    /// Something failed.
    Error,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub message: String,
}

/// The lines of one invocation, up to a bound in bytes.
#[derive(Debug)]
pub struct LogBuffer {
    lines: Vec<LogLine>,
    bytes: u64,
    bound: u64,
    dropped: u64,
}

impl LogBuffer {
    /// Room for `bound` bytes.
    pub fn new(bound: u64) -> Self {
        Self {
            lines: Vec::new(),
            bytes: 0,
            bound,
            dropped: 0,
        }
    }

    /// Keeps a line if there is room; counts it otherwise.
    pub fn push(&mut self, at: u64, level: Level, message: String) {
        let size = message.len() as u64 + 16;
        if self.bytes + size > self.bound {
            self.dropped += 1;
            return;
        }
        self.bytes += size;
        self.lines.push(LogLine { at, level, message });
    }

    /// The lines, and how many there was no room for.
    pub fn into_lines(mut self, at: u64) -> Vec<LogLine> {
        if self.dropped > 0 {
            let message = format!(
                "{} more lines dropped: limit `log_bytes` of {} reached",
                self.dropped, self.bound
            );
            self.lines.push(LogLine {
                at,
                level: Level::Warn,
                message,
            });
        }
        self.lines
    }
}

/// The rows that keep the lines of an invocation which began at a time; none when there are none. The lines lie with
/// the run of its first event; a link leads there from the run of each other.
pub fn log_writes<'a>(
    lines: &[LogLine],
    events: impl IntoIterator<Item = (&'a Event, u32)>,
    function: &Function,
    at: u64,
) -> Vec<StateWrite> {
    let mut writes: Vec<StateWrite> = Vec::new();
    if lines.is_empty() {
        return writes;
    }
    let (name, version) = (&function.name, function.version);
    let mut runs = HashSet::new();
    for (event, attempt) in events {
        if !runs.insert(event.run.as_str()) {
            continue;
        }
        let value = match writes.first() {
            None => serde_json::to_vec(lines),
            Some(kept) => serde_json::to_vec(&kept.key),
        };
        writes.push(StateWrite {
            table: LOGS.into(),
            key: log_key(&event.run, at, name, &event.id, attempt, version),
            value: value.ok().map(Bytes::from),
            condition: Condition::None,
        });
    }
    writes
}

/// Where the lines of an invocation lie, by its time within its run.
pub(super) fn log_key(run: &str, at: u64, function: &str, event: &str, attempt: u32, version: u64) -> String {
    format!("{run}/{at:014}/{function}/{event}/{attempt}/{version}")
}

/// A line with where it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Logged {
    /// The run.
    pub run: String,
    /// The function.
    pub function: String,
    /// The version of the function; none where it was not noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The event.
    pub event: String,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Of this run only.
    pub run: Option<String>,
    /// Of this function only.
    pub function: Option<String>,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub since: Option<u64>,
    /// With this text in them.
    pub text: Option<String>,
}

impl LogFilter {
    fn fits(&self, logged: &Logged) -> bool {
        let LogLine { at, message, .. } = &logged.line;
        self.function
            .as_ref()
            .is_none_or(|function| *function == logged.function)
            && self.since.is_none_or(|since| *at >= since)
            && self
                .text
                .as_ref()
                .is_none_or(|text| message.contains(text.as_str()))
    }
}

/// Lines that were found.
#[derive(Debug, Clone, Serialize)]
pub struct FoundLines {
    /// The lines, oldest first.
    pub lines: Vec<Logged>,
    /// Whether the search went through all that is kept, or found as many lines as it was to.
    pub complete: bool,
}

impl Records {
    /// The latest `limit` lines that fit. Without a run the newest runs are searched first, and at most [`SEARCHED`]
    /// invocations.
    pub async fn logs(&self, filter: &LogFilter, limit: usize) -> Result<FoundLines, StoreError> {
        self.write_requests().await?;
        let run = filter.run.as_deref();
        let prefix = run.map_or(String::new(), |run| format!("{run}/"));
        let mut searched = 0;
        let mut found = Vec::new();
        let mut after = None;
        while found.len() < limit && searched < SEARCHED {
            let page = self
                .store
                .query(LOGS, &prefix, after.as_deref(), 200, Order::Descending)
                .await?;
            searched += page.entries.len();
            for (key, row) in page.entries {
                let lines = match linked(&row.value) {
                    None => lines_of(&key, &row.value),
                    // Whoever asks for all runs sees the lines where they lie.
                    Some(_) if run.is_none() => Vec::new(),
                    Some(kept) => self.lines_at(&kept).await?,
                };
                found.extend(lines.into_iter().rev().filter(|logged| filter.fits(logged)));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let complete = after.is_none() || found.len() >= limit;
        found.truncate(limit);
        found.reverse();
        Ok(FoundLines {
            lines: found,
            complete,
        })
    }

    /// The lines that a link leads to.
    async fn lines_at(&self, key: &str) -> Result<Vec<Logged>, StoreError> {
        let row = self.store.get(LOGS, key).await?;
        Ok(row.map_or_else(Vec::new, |row| lines_of(key, &row.value)))
    }
}

/// Where the lines lie, if a row is a link.
fn linked(value: &[u8]) -> Option<String> {
    serde_json::from_slice(value).ok()
}

fn lines_of(key: &str, value: &[u8]) -> Vec<Logged> {
    let mut parts = key.split('/');
    let (Some(run), Some(_at), Some(name), Some(event)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let version = parts.nth(1).and_then(|version| version.parse().ok());
    let lines: Vec<LogLine> = serde_json::from_slice(value).unwrap_or_default();
    let place = |line| Logged {
        run: run.into(),
        function: name.into(),
        version,
        event: event.into(),
        line,
    };
    lines.into_iter().map(place).collect()
}
