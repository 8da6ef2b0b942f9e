//! Runs: every event descends from one that started a run; every handling of an event is a step of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{RUNS, Records};
use crate::effects::{COUNTS, EffectCounts};
use crate::event::Event;
use crate::sandbox::Usage;
use crate::store::{Condition, Order, StateWrite, StoreError};

/// The most steps of one run that are read back.
const STEPS: usize = 10_000;

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Waits for its turn.
    Queued,
    /// A join that waits for its parts.
    Joining,
    /// Runs; never kept, only shown.
    Running,
    /// Failed, and will be tried again.
    Retry,
    /// Its effects are committed.
    Done,
    /// Failed for good.
    Dead,
    /// Failed, and waits to be resumed by hand.
    Paused,
    /// Failed for good, and its dead letter was dropped by hand.
    Dropped,
}

/// The handling of one event by one function, or by the worker pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The event.
    pub event: String,
    /// The event that caused it.
    pub parent: Option<String>,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's subject.
    pub subject: Option<String>,
    /// The function, or `job:KIND`.
    pub function: String,
    /// The version of the function; none for a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Where it is.
    pub state: StepState,
    /// The attempt that `state` tells of.
    pub attempt: u32,
    /// When the event was queued, or is due where it is held back; in milliseconds since the Unix epoch.
    pub queued: u64,
    /// When the last attempt started.
    pub started: Option<u64>,
    /// When it ended.
    pub finished: Option<u64>,
    /// How long it took.
    pub duration_ms: Option<f64>,
    /// What it took; none for a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it asked for, once that is committed; in a batch it is all with its first event. None for a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<EffectCounts>,
    /// The trace that the event belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The span of the last attempt in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The ids of the events it emitted; in a batch they are all with its first event.
    pub emitted: Vec<String>,
    /// The handlings of parts that a join waits for; never kept, only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<u64>,
    /// The batch it was handled in; none where it was handled alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batched>,
}

/// Where an event was handled together with others, in one invocation: their steps have its times and its usage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batched {
    /// How many events there were.
    pub events: usize,
    /// The first of them.
    pub first: String,
    /// The run of the first, which also has what the batch emitted and logged.
    pub run: String,
}

impl Batched {
    /// The batch of a first event; none where it is the only one.
    pub fn of(first: &Event, events: usize) -> Option<Self> {
        (events > 1).then(|| Self {
            events,
            first: first.id.clone(),
            run: first.run.clone(),
        })
    }
}

impl StepRecord {
    /// A step that waits.
    pub fn queued(event: &Event, function: &str, at: u64) -> Self {
        Self {
            event: event.id.clone(),
            parent: event.parent.clone(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            function: function.to_owned(),
            version: None,
            state: StepState::Queued,
            attempt: 1,
            queued: at,
            started: None,
            finished: None,
            duration_ms: None,
            usage: None,
            effects: None,
            trace_id: event.context().map(|context| context.trace_id()),
            span_id: None,
            reason: None,
            emitted: Vec::new(),
            waits_for: None,
            batch: None,
        }
    }

    /// The row that keeps the step in its run.
    pub fn into_write(self, run: &str) -> StateWrite {
        let value = serde_json::to_vec(&self).map(Bytes::from).unwrap_or_default();
        let key = step_key(run, &self.event, &self.function);
        StateWrite {
            table: RUNS.into(),
            key,
            value: Some(value),
            condition: Condition::None,
        }
    }
}

fn step_key(run: &str, event: &str, function: &str) -> String {
    format!("s/{run}/{event}/{function}")
}

/// What started a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunHead {
    /// The run.
    pub run: String,
    /// The type of its first event.
    #[serde(rename = "type")]
    pub kind: String,
    /// The subject of its first event.
    pub subject: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub started: u64,
}

impl RunHead {
    /// The row that keeps it.
    pub fn write_for(event: &Event) -> StateWrite {
        let head = Self {
            run: event.run.clone(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            started: event.time,
        };
        let value = serde_json::to_vec(&head).map(Bytes::from).unwrap_or_default();
        StateWrite {
            table: RUNS.into(),
            key: format!("r/{}", head.run),
            value: Some(value),
            condition: Condition::None,
        }
    }
}

/// When a row of [`RUNS`] was written, as it tells itself, in milliseconds: when the step ended, or the run began.
pub fn run_written(value: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Times {
        finished: Option<u64>,
        started: Option<u64>,
        queued: Option<u64>,
    }
    let times: Times = serde_json::from_slice(value).ok()?;
    times.finished.or(times.started).or(times.queued)
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// A step waits or runs.
    Running,
    /// Every step is done.
    Done,
    /// No step waits, and one failed for good.
    Dead,
    /// No step goes on before one is resumed by hand.
    Paused,
}

/// A run in one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunSummary {
    /// What started it.
    #[serde(flatten)]
    pub head: RunHead,
    /// Where it is.
    pub state: RunState,
    /// When its last step ended.
    pub finished: Option<u64>,
    /// The number of its steps.
    pub steps: usize,
}

/// A run with its steps, in the order they were queued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunDetail {
    /// What started it.
    #[serde(flatten)]
    pub head: RunHead,
    /// Where it is.
    pub state: RunState,
    /// When its last step ended.
    pub finished: Option<u64>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
}

impl Records {
    /// The latest runs, newest first.
    pub async fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, StoreError> {
        let page = self
            .store
            .query(RUNS, "r/", None, limit, Order::Descending)
            .await?;
        let mut runs = Vec::new();
        for (_, row) in page.entries {
            if let Ok(head) = serde_json::from_slice::<RunHead>(&row.value) {
                let steps = self.steps(&head.run).await?;
                runs.push(summarise(head, &steps));
            }
        }
        Ok(runs)
    }

    /// One run.
    pub async fn run(&self, run: &str) -> Result<Option<RunDetail>, StoreError> {
        let Some(row) = self.store.get(RUNS, &format!("r/{run}")).await? else {
            return Ok(None);
        };
        let Ok(head) = serde_json::from_slice::<RunHead>(&row.value) else {
            return Ok(None);
        };
        let mut steps = self.steps(run).await?;
        self.show_counts(&mut steps).await?;
        let RunSummary {
            head,
            state,
            finished,
            ..
        } = summarise(head, &steps);
        Ok(Some(RunDetail {
            head,
            state,
            finished,
            steps,
        }))
    }

    /// Shows how many handlings the open joins among steps wait for.
    async fn show_counts(&self, steps: &mut [StepRecord]) -> Result<(), StoreError> {
        let open = steps.iter_mut().filter(|step| step.state == StepState::Joining);
        for step in open {
            let count = self.store.get(COUNTS, &step.event).await?;
            step.waits_for = count.and_then(|count| serde_json::from_slice(&count.value).ok());
        }
        Ok(())
    }

    /// One step.
    pub async fn step(
        &self,
        run: &str,
        event: &str,
        function: &str,
    ) -> Result<Option<StepRecord>, StoreError> {
        let row = self.store.get(RUNS, &step_key(run, event, function)).await?;
        Ok(row.and_then(|row| serde_json::from_slice(&row.value).ok()))
    }

    /// The handlings of one event, as they are kept.
    pub async fn steps_of(&self, event: &Event) -> Result<Vec<StepRecord>, StoreError> {
        let prefix = step_key(&event.run, &event.id, "");
        let query = self.store.query(RUNS, &prefix, None, STEPS, Order::Ascending);
        let rows = query.await?.entries.into_iter();
        Ok(rows
            .filter_map(|(_, row)| serde_json::from_slice(&row.value).ok())
            .collect())
    }

    async fn steps(&self, run: &str) -> Result<Vec<StepRecord>, StoreError> {
        let prefix = format!("s/{run}/");
        let mut steps: Vec<StepRecord> = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .store
                .query(RUNS, &prefix, after.as_deref(), 1000, Order::Ascending)
                .await?;
            steps.extend(
                page.entries
                    .iter()
                    .filter_map(|(_, row)| serde_json::from_slice(&row.value).ok()),
            );
            after = page.next;
            if after.is_none() || steps.len() >= STEPS {
                break;
            }
        }
        self.running.show(&mut steps);
        steps.sort_by_key(|step| step.queued);
        Ok(in_causal_order(steps))
    }
}

fn summarise(head: RunHead, steps: &[StepRecord]) -> RunSummary {
    let open = steps.iter().any(|step| {
        matches!(
            step.state,
            StepState::Queued | StepState::Running | StepState::Retry
        )
    });
    // A join waits for others: where one of them has failed for good, the run does not go on by itself.
    let joining = steps.iter().any(|step| step.state == StepState::Joining);
    let paused = steps.iter().any(|step| step.state == StepState::Paused);
    let dead = steps
        .iter()
        .any(|step| matches!(step.state, StepState::Dead | StepState::Dropped));
    let state = match (open, paused, dead) {
        (true, ..) => RunState::Running,
        (false, true, _) => RunState::Paused,
        (false, false, true) => RunState::Dead,
        (false, false, false) if joining => RunState::Running,
        (false, false, false) => RunState::Done,
    };
    let finished = steps
        .iter()
        .filter_map(|step| step.finished)
        .max()
        .filter(|_| !matches!(state, RunState::Running | RunState::Paused));
    RunSummary {
        head,
        state,
        finished,
        steps: steps.len(),
    }
}

/// Steps whose cause is in the list come after it, otherwise in the order they were queued.
fn in_causal_order(steps: Vec<StepRecord>) -> Vec<StepRecord> {
    let known: std::collections::BTreeSet<String> = steps.iter().map(|step| step.event.clone()).collect();
    let mut children: BTreeMap<Option<String>, Vec<StepRecord>> = BTreeMap::new();
    for step in steps {
        let parent = step.parent.clone().filter(|parent| known.contains(parent));
        children.entry(parent).or_default().push(step);
    }
    let mut ordered = Vec::new();
    let mut waiting = children.remove(&None).unwrap_or_default();
    waiting.reverse();
    while let Some(step) = waiting.pop() {
        let mut caused = children.remove(&Some(step.event.clone())).unwrap_or_default();
        caused.reverse();
        waiting.extend(caused);
        ordered.push(step);
    }
    ordered
}
