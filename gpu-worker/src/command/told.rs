//! What a program says of itself: JSON lines on its standard output are its progress, anything else is for the log.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::process::Heard;
use super::scratch::Scratch;
use crate::jobs::session::{JobError, Progress, Session};

/// Epochs whose metrics are kept, the latest.
const HISTORY: usize = 1000;
/// Of those, what goes out with each report.
const REPORTED: usize = 25;
/// The last lines of its standard error that tell why it failed.
const LAST: usize = 20;
/// Lines of an attempt that go to the worker's log.
const LOGGED: usize = 1000;

/// A line of progress. What is not in it stays as it was.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    /// The epoch that has ended.
    epoch: Option<u64>,
    /// Epochs in all.
    of: Option<u64>,
    /// One line for people.
    message: Option<String>,
    /// What was measured; with `epoch`, a line of the history.
    metrics: Option<Map<String, Value>>,
    /// The folder of checkpoints is whole: it is kept for a later attempt.
    checkpoint: bool,
    /// What the job tells of its end.
    outputs: Option<Map<String, Value>>,
}

/// What a program has said so far.
#[derive(Default)]
pub(super) struct Told {
    progress: Progress,
    history: VecDeque<Value>,
    outputs: Map<String, Value>,
    last: VecDeque<String>,
    logged: usize,
}

impl Told {
    /// What an earlier attempt said before its last checkpoint.
    pub(super) fn before(scratch: &Scratch) -> Self {
        Self {
            history: scratch.history().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Takes a line.
    pub(super) fn hear(
        &mut self,
        heard: Heard,
        scratch: &Scratch,
        session: &dyn Session,
    ) -> Result<(), JobError> {
        match heard {
            Heard::Complained(line) => {
                self.log(&line);
                keep_latest(&mut self.last, LAST, line);
                Ok(())
            }
            Heard::Said(line) if line.starts_with('{') => match serde_json::from_str(&line) {
                Ok(line) => self.progressed(line, scratch, session),
                Err(error) => {
                    self.log(&format!("{line} (no line of progress: {error})"));
                    Ok(())
                }
            },
            Heard::Said(line) => {
                self.log(&line);
                Ok(())
            }
        }
    }

    fn log(&mut self, line: &str) {
        self.logged += 1;
        match self.logged {
            ..=LOGGED => tracing::info!("the program says: {line}"),
            more if more == LOGGED + 1 => tracing::info!("the program says more, which is not logged"),
            _ => {}
        }
    }

    fn progressed(&mut self, line: Line, scratch: &Scratch, session: &dyn Session) -> Result<(), JobError> {
        if let Some(epoch) = line.epoch {
            let mut row = line.metrics.clone().unwrap_or_default();
            row.insert("epoch".to_owned(), epoch.into());
            keep_latest(&mut self.history, HISTORY, row.into());
        }
        self.outputs = line.outputs.unwrap_or(std::mem::take(&mut self.outputs));
        let before = std::mem::take(&mut self.progress);
        let done = line.epoch.unwrap_or(before.done);
        let total = line.of.unwrap_or(before.total).max(done);
        let latest = self.history.len().saturating_sub(REPORTED);
        self.progress = Progress {
            done,
            total,
            unit: "epochs",
            message: line.message.unwrap_or_else(|| {
                line.epoch
                    .map_or(before.message, |epoch| format!("epoch {epoch}"))
            }),
            metrics: line.metrics.unwrap_or(before.metrics),
            history: self.history.range(latest..).cloned().collect(),
        };
        session.report(self.progress.clone());
        match line.checkpoint {
            true => scratch.save_checkpoint(&self.history, session),
            false => Ok(()),
        }
    }

    /// The end of what it complained of.
    pub(super) fn last_words(self) -> String {
        match self.last.is_empty() {
            true => "it said nothing on its standard error".to_owned(),
            false => Vec::from(self.last).join("\n"),
        }
    }

    /// What the job tells of its end.
    pub(super) fn outputs(self) -> Map<String, Value> {
        let mut outputs = self.outputs;
        outputs.insert("history".to_owned(), Vec::from(self.history).into());
        outputs
    }
}

fn keep_latest<T>(latest: &mut VecDeque<T>, most: usize, one: T) {
    if latest.len() >= most {
        latest.pop_front();
    }
    latest.push_back(one);
}
