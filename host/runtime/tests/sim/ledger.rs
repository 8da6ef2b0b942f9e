//! What really happened, as seen from outside the platform: every unit the store took, every call of a guest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_runtime::dispatch::{DEAD, DeadLetter};
use tidegate_runtime::effects::{DONE, Ending, JOIN, done_key};
use tidegate_runtime::event::Event;
use tidegate_runtime::jobs::{JOBS, Job, Phase};
use tidegate_runtime::manifest::Function;
use tidegate_runtime::store::{CommitError, Condition, Unit};
use tidegate_runtime::trigger::next_fire;

use crate::pipeline::Pipeline;

use crate::keys::Keys;

/// What happened so far.
#[derive(Default)]
pub struct Ledger {
    /// Every line of the story, for a replay to be compared with and read.
    pub story: Vec<String>,
    /// Events that were queued, by function (or queue of jobs) and id.
    pub accepted: BTreeMap<(String, String), Arc<Event>>,
    /// The fires of each function's schedule, in the order of their commits.
    pub fires: BTreeMap<String, Vec<u64>>,
    /// The versions of a function that an event entered for, by [`done_key`].
    pub entered: BTreeMap<String, BTreeSet<u64>>,
    /// The versions of a function that began to handle an event, by [`done_key`].
    pub handled: BTreeMap<String, BTreeSet<u64>>,
    /// How often a function's handling of an event ended, by [`done_key`].
    pub ends: BTreeMap<String, u32>,
    /// The events whose handling ended in the same unit, by [`done_key`].
    pub together: BTreeMap<String, Arc<[String]>>,
    /// How often a dead letter was redriven, by [`done_key`].
    pub redriven: BTreeMap<String, u32>,
    /// Handlings that are done, by [`done_key`].
    pub done: BTreeSet<String>,
    /// Dead letters that were dropped.
    pub dropped: BTreeSet<String>,
    /// How often a job was submitted and how often it ended, by id.
    pub jobs: BTreeMap<String, (u32, u32)>,
    /// Attempts that the guest failed, by [`done_key`].
    pub failed: BTreeMap<String, BTreeSet<u32>>,
    /// Units refused by a condition of the guest, by [`done_key`].
    pub conflicts: BTreeMap<String, u32>,
    /// The earliest time of an attempt.
    pub not_before: BTreeMap<(String, u32), u64>,
    /// What has a key.
    pub keys: Keys,
    /// What must not be.
    pub violations: Vec<String>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Notes what must not be.
    pub fn violation(&mut self, what: String) {
        self.story.push(format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// Sees a unit and what the store said to it.
    pub fn committed(&mut self, now: u64, unit: &Unit, answer: &Result<(), CommitError>) {
        match answer {
            Ok(()) => self.took(now, unit),
            Err(CommitError::Conflict { table, .. }) if table != DONE => {
                self.count("conflicts");
                // Refused together, no event has failed yet.
                let mut markers = unit.state.iter().filter(|write| write.table == DONE);
                if let (Some(marker), None) = (markers.next(), markers.next()) {
                    *self.conflicts.entry(marker.key.clone()).or_default() += 1;
                }
            }
            Err(CommitError::Conflict { .. }) => self.count("second ends refused"),
            Err(CommitError::Lost { .. }) => self.count("lost deliveries"),
            Err(error @ (CommitError::Store(_) | CommitError::TooLarge { .. })) => {
                self.violation(format!("the inner store failed: {error}"))
            }
        }
    }

    fn took(&mut self, now: u64, unit: &Unit) {
        if !unit.state.iter().any(|write| write.table == DEAD) {
            self.fired(unit);
        }
        for enqueue in unit.enqueue.iter().filter(|enqueue| enqueue.attempt == 1) {
            let (function, version) = enqueue.queue.split_once('@').unwrap_or((&enqueue.queue, ""));
            if let Ok(version) = version.parse() {
                let key = done_key(function, &enqueue.event.id);
                self.entered.entry(key).or_default().insert(version);
            }
            let at = (function.to_owned(), enqueue.event.id.clone());
            let first = self.accepted.insert(at, enqueue.event.clone()).is_none();
            if first && enqueue.not_before.is_none() {
                self.keys.queued(&enqueue.queue, &enqueue.event);
            }
        }
        for _ in &unit.defer {
            self.count("deferred");
        }
        self.ended_together(unit);
        for write in &unit.state {
            match (write.table.as_str(), &write.value) {
                (DONE, Some(marker)) => {
                    *self.ends.entry(write.key.clone()).or_default() += 1;
                    if Ending::read(marker) == Some(Ending::Done) {
                        self.done.insert(write.key.clone());
                    }
                    self.story.push(format!("{now} end {}", write.key));
                }
                (DEAD, Some(row)) => self.letter(row),
                (DEAD, None) => self.letter_gone(now, &write.key, !unit.enqueue.is_empty()),
                (JOBS, Some(row)) => self.job(row, write.condition),
                _ => {}
            }
        }
    }

    /// Checks that the joins which a unit completes have no part that may still be handled. It holds where units are
    /// seen in the order of their commits.
    pub fn expect_whole_joins(&mut self, unit: &Unit) {
        let ends = unit
            .state
            .iter()
            .filter(|write| write.table == DONE && write.value.is_some());
        for key in ends.map(|write| &write.key) {
            if let Some((JOIN, id)) = key.split_once('/') {
                self.expect_whole_join(id);
            }
        }
    }

    fn expect_whole_join(&mut self, id: &str) {
        self.count("joins completed");
        let parts = self
            .accepted
            .iter()
            .filter(|(_, event)| event.part_of.as_ref().is_some_and(|join| join.id == id));
        let keys = parts.map(|((queue, event), _)| done_key(queue, event));
        let early: Vec<_> = keys
            .filter(|key| !self.done.contains(key) && !self.dropped.contains(key))
            .collect();
        if !early.is_empty() {
            self.violation(format!("join {id} is completed before its parts {early:?}"));
        }
    }

    /// Notes which events one unit ended, in their order.
    fn ended_together(&mut self, unit: &Unit) {
        let ends = unit
            .state
            .iter()
            .filter(|write| write.table == DONE && write.value.is_some());
        let keys: Vec<&String> = ends.map(|write| &write.key).collect();
        let event = |key: &&String| key.split_once('/').map(|(_, event)| event.to_owned());
        let events: Arc<[String]> = keys.iter().filter_map(event).collect();
        if events.len() > 1 {
            self.count("batches committed");
        }
        for key in keys {
            self.together.insert(key.clone(), events.clone());
        }
    }

    /// Checks that no event was handled by a version that it did not enter for.
    pub fn expect_versions(&mut self) {
        let handled = self.handled.iter();
        let strayed = handled.filter(|(key, by)| {
            !self
                .entered
                .get(*key)
                .is_some_and(|entered| by.is_subset(entered))
        });
        let strayed: Vec<_> = strayed
            .map(|(key, by)| format!("{key} is handled by versions {by:?}"))
            .collect();
        for what in strayed {
            self.violation(format!("{what}, for which it did not enter"));
        }
    }

    /// Sees the schedules that fire with a unit.
    fn fired(&mut self, unit: &Unit) {
        let entered = unit.enqueue.iter().filter(|enqueue| enqueue.attempt == 1);
        let fires: BTreeMap<_, _> = entered
            .filter_map(|enqueue| {
                Some((
                    enqueue.event.source.strip_prefix("/schedules/")?,
                    enqueue.event.time,
                ))
            })
            .collect();
        for (function, time) in fires {
            self.fires.entry(function.to_owned()).or_default().push(time);
        }
    }

    /// Checks that every schedule fired each of its times once, up to `until`. Only a host that was away for long
    /// leaves some out.
    pub fn expect_fires(&mut self, pipeline: &Pipeline, until: u64) {
        let may_miss = self.counts.contains_key("long downtimes");
        for (function, schedule) in pipeline.schedules() {
            let fires = self.fires.get(&function).cloned().unwrap_or_default();
            for pair in fires.windows(2) {
                let expected = next_fire(schedule, pair[0]).unwrap_or_default();
                if pair[1] < expected || (pair[1] > expected && !may_miss) {
                    self.violation(format!(
                        "{function} fired at {pair:?}, expected {expected} after the first"
                    ));
                }
            }
            let missing = fires.last().and_then(|last| next_fire(schedule, *last));
            if let Some(time) = missing.filter(|time| *time <= until) {
                self.violation(format!("{function} has not fired at {time}"));
            }
            if !fires.is_empty() {
                self.count("schedules fired");
            }
        }
    }

    fn letter(&mut self, row: &[u8]) {
        let Ok(letter) = serde_json::from_slice::<DeadLetter>(row) else {
            return self.violation("a dead letter's row is no dead letter".into());
        };
        self.count(if letter.paused { "paused" } else { "dead letters" });
        if letter.reason.contains("max_age") {
            self.count("too old");
        }
    }

    fn letter_gone(&mut self, now: u64, key: &str, redriven: bool) {
        if redriven {
            self.count("redriven");
            *self.redriven.entry(key.to_owned()).or_default() += 1;
            self.story.push(format!("{now} redrive {key}"));
        } else {
            self.count("dropped");
            self.dropped.insert(key.to_owned());
            self.story.push(format!("{now} drop {key}"));
        }
    }

    fn job(&mut self, row: &[u8], condition: Condition) {
        let Ok(job) = serde_json::from_slice::<Job>(row) else {
            return self.violation("a job's row is no job".into());
        };
        let (submitted, ended) = self.jobs.entry(job.id).or_default();
        if job.phase == Phase::Cancelled {
            *self.counts.entry("jobs cancelled").or_default() += 1;
        }
        match job.phase {
            Phase::Succeeded | Phase::Failed | Phase::Cancelled => *ended += 1,
            _ if condition == Condition::Absent => *submitted += 1,
            Phase::Running => return self.count("jobs leased"),
            _ => return self.count("jobs queued again"),
        }
        self.count("jobs submitted and ended");
    }

    /// Sees a guest begin an attempt.
    pub fn began(&mut self, now: u64, function: &Function, event: &Event, attempt: u32) {
        let (key, allowed) = (done_key(&function.name, &event.id), function.retry.max_attempts);
        self.handled
            .entry(key.clone())
            .or_default()
            .insert(function.version);
        self.count("handled");
        self.story.push(format!("{now} begin {key} attempt {attempt}"));
        if attempt == 0 || attempt > allowed {
            self.violation(format!("{key} is tried {attempt} times, allowed are {allowed}"));
        }
        let failures = self.failed.get(&key).map_or(0, BTreeSet::len) as u32;
        let refused = self.conflicts.get(&key).copied().unwrap_or_default();
        if attempt > 1 + failures + refused {
            self.violation(format!(
                "{key} is at attempt {attempt} after {failures} failures and {refused} conflicts of its own"
            ));
        }
        let due = event.time + held_back(event);
        let due = self
            .not_before
            .get(&(key.clone(), attempt))
            .copied()
            .unwrap_or(due)
            .max(due);
        if now < due {
            self.violation(format!("{key} is handled at {now}, {} ms early", due - now));
        }
    }

    /// Sees a guest begin to handle an event of a key: not too many at one time, and not before its turn.
    pub fn takes_its_turn(&mut self, spec: &Function, event: &Event) {
        let (queue, function) = (spec.queue(), &spec.name);
        let before = self.keys.before(&queue, event);
        let early = before
            .iter()
            .find(|id| !self.ends.contains_key(&done_key(function, id)))
            .map(|id| {
                format!(
                    "{function}/{} is handled before {id}, which was queued earlier",
                    event.id
                )
            });
        if !before.is_empty() {
            self.count("kept in order");
        }
        let too_many = self.keys.begins(&queue, event).err();
        early
            .into_iter()
            .chain(too_many)
            .for_each(|what| self.violation(what));
    }

    /// Sees a guest fail an attempt; `delay` is what it asked for.
    pub fn failed(&mut self, now: u64, key: String, attempt: u32, delay: Option<u64>) {
        self.count("failed attempts");
        self.story.push(format!("{now} fail {key} attempt {attempt}"));
        if self.failed.entry(key.clone()).or_default().insert(attempt) {
            self.not_before
                .insert((key, attempt + 1), now + delay.unwrap_or_default());
        } else if let Some(due) = self.not_before.get_mut(&(key, attempt + 1)) {
            *due = (*due).min(now + delay.unwrap_or_default());
        }
    }
}

/// How long an event asks to be held back, by its own data.
fn held_back(event: &Event) -> u64 {
    let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap_or_default();
    data["held_back"].as_u64().unwrap_or_default()
}
