//! What must hold when everything has come to rest, whatever went wrong on the way.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_runtime::dispatch::{DEAD, DeadLetter};
use tidegate_runtime::effects::{DONE, Ending, JOIN, done_key};
use tidegate_runtime::event::Event;
use tidegate_runtime::jobs::{JOBS, Job, Phase};
use tidegate_runtime::records::{RUNS, StepRecord, StepState};
use tidegate_runtime::sandbox::{batch_id, derived_id};
use tidegate_runtime::store::{Order, Store, StoreError, Versioned};
use tidegate_runtime::trigger::{OBJECT_CREATED, Router};

use crate::guests::{COUNTERS, HOT, LEFTOVERS, NO_OBJECT, REFUSED, number, object_key};
use crate::ledger::Ledger;
use crate::pipeline::{BUCKET, Pipeline};

/// The world at rest.
struct Rest<'a> {
    pipeline: &'a Pipeline,
    router: Router,
    ledger: &'a mut Ledger,
    markers: BTreeMap<String, Ending>,
    letters: BTreeMap<String, DeadLetter>,
    counters: BTreeMap<String, u64>,
    jobs: BTreeMap<String, Job>,
    objects: BTreeSet<String>,
    steps: BTreeMap<String, StepRecord>,
    /// Events that a committed handling, a publication or a job's end stands for, by queue and id.
    explained: BTreeSet<(String, String)>,
}

/// Checks everything; what does not hold is noted as a violation.
pub async fn check(pipeline: &Pipeline, store: &dyn Store, ledger: &mut Ledger) -> Result<(), StoreError> {
    let mut rest = Rest {
        pipeline,
        router: Router::new(&pipeline.functions),
        markers: decoded(store, DONE, Ending::read).await?,
        letters: letters(store).await?,
        counters: counters(store).await?,
        jobs: decoded(store, JOBS, |value| serde_json::from_slice(value).ok()).await?,
        objects: objects(store).await?,
        steps: steps(store).await?,
        explained: BTreeSet::new(),
        ledger,
    };
    if !rows(store, LEFTOVERS).await?.is_empty() {
        rest.ledger
            .violation("a failed attempt left a write behind".into());
    }
    rest.ledger.expect_versions();
    let accepted: Vec<_> = rest.ledger.accepted.clone().into_iter().collect();
    for ((function, _), event) in &accepted {
        if !function.starts_with('$') {
            rest.one_end(function, event);
        }
    }
    for ((function, _), event) in &accepted {
        if rest.markers.get(&done_key(function, &event.id)) == Some(&Ending::Done) {
            rest.effects(function, event);
        }
    }
    rest.counts();
    rest.job_ends();
    rest.nothing_unexplained();
    Ok(())
}

/// The counters.
pub async fn counters(store: &dyn Store) -> Result<BTreeMap<String, u64>, StoreError> {
    decoded(store, COUNTERS, |value| Some(number(value))).await
}

async fn rows(store: &dyn Store, table: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
    let page = store.query(table, "", None, 100_000, Order::Ascending).await?;
    Ok(page.entries)
}

async fn decoded<T>(
    store: &dyn Store,
    table: &str,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<BTreeMap<String, T>, StoreError> {
    let decoded = rows(store, table).await?.into_iter().map(|(key, row)| {
        let value =
            decode(&row.value).ok_or_else(|| StoreError(format!("`{table}/{key}` cannot be read")))?;
        Ok((key, value))
    });
    decoded.collect()
}

async fn letters(store: &dyn Store) -> Result<BTreeMap<String, DeadLetter>, StoreError> {
    let rows = decoded(store, DEAD, |value| {
        serde_json::from_slice::<DeadLetter>(value).ok()
    })
    .await?;
    let count = rows.len();
    let letters: BTreeMap<_, _> = rows
        .into_values()
        .map(|letter| (done_key(&letter.function, &letter.event.id), letter))
        .collect();
    if letters.len() < count {
        return Err(StoreError("an event has two dead letters of one function".into()));
    }
    Ok(letters)
}

async fn objects(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let page = store.list(BUCKET, "", None, 100_000).await?;
    Ok(page.entries.into_iter().map(|meta| meta.key).collect())
}

/// The steps of functions, by [`done_key`].
async fn steps(store: &dyn Store) -> Result<BTreeMap<String, StepRecord>, StoreError> {
    let rows = rows(store, RUNS).await?;
    let steps = rows
        .iter()
        .filter(|(key, _)| key.starts_with("s/"))
        .map(|(key, row)| {
            let step: StepRecord =
                serde_json::from_slice(&row.value).map_err(|error| StoreError(format!("{key}: {error}")))?;
            Ok((done_key(&step.function, &step.event), step))
        });
    steps.collect()
}

impl Rest<'_> {
    /// The handling of an event by a function ended once, done or dead, and its records say so.
    fn one_end(&mut self, function: &str, event: &Event) {
        let key = done_key(function, &event.id);
        let (marker, letter) = (self.markers.get(&key).copied(), self.letters.get(&key));
        let state = self.steps.get(&key).map(|step| step.state);
        let expected = match letter {
            Some(letter) if letter.paused => (Ending::Dead, StepState::Paused),
            Some(_) => (Ending::Dead, StepState::Dead),
            None if self.ledger.dropped.contains(&key) => (Ending::Dead, StepState::Dropped),
            None => (Ending::Done, StepState::Done),
        };
        let ends = self.ledger.ends.get(&key).copied().unwrap_or_default();
        let redriven = self.ledger.redriven.get(&key).copied().unwrap_or_default();
        if marker.zip(state) != Some(expected) || ends != 1 + redriven {
            let dead = letter.is_some();
            self.ledger.violation(format!(
                "{key} ended {ends} times after {redriven} redrives: marker {marker:?}, dead letter {dead}, step {state:?}"
            ));
        }
        self.letter(function, &key);
    }

    /// A letter tells of as many attempts as there may be, and of what was logged.
    fn letter(&mut self, function: &str, key: &str) {
        let policy = &self.pipeline.functions[self.pipeline.index(function)].retry;
        let Some(letter) = self.letters.get(key) else {
            return;
        };
        let (reason, attempts, logs) = (letter.reason.clone(), letter.attempts, letter.logs.len());
        let right = match reason.as_str() {
            REFUSED => logs == 1,
            NO_OBJECT => false,
            old if old.contains("past `max_age`") => attempts < policy.max_attempts,
            _ => attempts == policy.max_attempts,
        };
        if !right {
            let allowed = policy.max_attempts;
            self.ledger.violation(format!(
                "{key} is dead after {attempts} of {allowed} attempts, with {logs} lines logged: {reason}"
            ));
        }
    }

    /// Everything that a committed handling asked for is there.
    fn effects(&mut self, function: &str, event: &Event) {
        let behaviour = self.pipeline.behaviour(function, &event.id);
        let key = done_key(function, &event.id);
        let Some(together) = self.ledger.together.get(&key).cloned() else {
            return self
                .ledger
                .violation(format!("{key} has a marker that no unit set"));
        };
        let first = (function.to_owned(), together[0].clone());
        let first = self.ledger.accepted.get(&first).cloned();
        let first = first.as_deref().unwrap_or(event);
        let (identity, before) = self.place(function, &event.id, &together);
        for (ordinal, (kind, _)) in (before..).zip(&behaviour.emits) {
            let id = derived_id(function, &identity, ordinal);
            self.entered(&id, &format!("T{kind}"), first);
        }
        if let Some(to) = behaviour.publishes {
            let key = object_key(to, function, &event.id);
            if !self.objects.remove(&key) {
                self.ledger.violation(format!("object `{key}` is not there"));
            }
            self.told(&key, to);
        }
        if let Some(kind) = behaviour.job {
            let id = derived_id(function, &identity, before + behaviour.emits.len());
            self.job(&id, kind, event);
        }
        if let Some((parts, then)) = &behaviour.join {
            let ordinal = before + behaviour.ids() - parts.len() - 2;
            let id = |nth| derived_id(function, &identity, ordinal + nth);
            let parts = (2..).zip(parts).map(|(nth, kind)| (id(nth), *kind)).collect();
            self.join(&id(0), parts, (id(1), *then), first);
        }
    }

    /// A join is completed once if all of its parts, the ends of jobs among them, are handled or given up, and not
    /// otherwise.
    fn join(&mut self, id: &str, parts: Vec<(String, usize)>, then: (String, usize), parent: &Event) {
        for (part, kind) in parts {
            self.entered(&part, &format!("T{kind}"), parent);
        }
        let is_part = |event: &Event| event.part_of.as_ref().is_some_and(|join| join.id == id);
        let parts = self.ledger.accepted.iter().filter(|(_, event)| is_part(event));
        let mut keys = parts.map(|((queue, event), _)| done_key(queue, event));
        let open = keys
            .any(|key| self.markers.get(&key) != Some(&Ending::Done) && !self.ledger.dropped.contains(&key));
        let key = done_key(JOIN, id);
        let ends = self.ledger.ends.get(&key).copied().unwrap_or_default();
        let state = self.steps.get(&key).map(|step| step.state);
        let expected = if open {
            (0, StepState::Joining)
        } else {
            (1, StepState::Done)
        };
        if (ends, state) != (expected.0, Some(expected.1)) {
            self.ledger.violation(format!(
                "join {id} ended {ends} times, step {state:?}, expected {expected:?}"
            ));
        }
        if open {
            return self.ledger.count("joins left open");
        }
        let (then, kind) = then;
        self.entered(&then, &format!("T{kind}"), parent);
    }

    /// What the ids are made from that a handling asked for, and how many of them the events before it asked for.
    fn place(&self, function: &str, event: &str, together: &[String]) -> (String, usize) {
        let identity = match together {
            [alone] => alone.clone(),
            _ => batch_id(together.iter().map(String::as_str)),
        };
        let before = together.iter().take_while(|other| *other != event);
        let asked = before.map(|other| {
            let behaviour = self.pipeline.behaviour(function, other);
            behaviour.ids()
        });
        (identity, asked.sum())
    }

    /// An event is in the queue of everyone who listens.
    fn entered(&mut self, id: &str, kind: &str, parent: &Event) {
        let event = Event {
            id: id.to_owned(),
            kind: kind.to_owned(),
            ..parent.clone()
        };
        for target in self.router.route(&event) {
            let at = (target.function, id.to_owned());
            match self.ledger.accepted.get(&at) {
                Some(found) if found.run == parent.run && found.kind == kind => {}
                found => {
                    let found = found.map(|event| (event.run.clone(), event.kind.clone()));
                    self.ledger.violation(format!(
                        "event {at:?} of type {kind} is lost, or another: {found:?}"
                    ));
                }
            }
            self.explained.insert(at);
        }
    }

    /// The publication of an object is one event for its function.
    fn told(&mut self, key: &str, to: usize) {
        let queue = format!("f{to}");
        let of_this = |((at, _), event): &(&(String, String), &std::sync::Arc<Event>)| {
            *at == queue && event.kind == OBJECT_CREATED && event.subject.as_deref() == Some(key)
        };
        let told: Vec<_> = self
            .ledger
            .accepted
            .iter()
            .filter(of_this)
            .map(|(at, _)| at.clone())
            .collect();
        if told.len() != 1 {
            self.ledger
                .violation(format!("object `{key}` was told of {} times", told.len()));
        }
        self.explained.extend(told);
    }

    /// A job was submitted once, ended once, and its end is an event.
    fn job(&mut self, id: &str, kind: usize, parent: &Event) {
        let counts = self.ledger.jobs.get(id).copied().unwrap_or_default();
        if counts != (1, 1) {
            self.ledger.violation(format!(
                "job {id} was submitted {} times and ended {}",
                counts.0, counts.1
            ));
        }
        let Some(job) = self.jobs.remove(id) else {
            return self.ledger.violation(format!("job {id} is not there"));
        };
        let end = match job.phase {
            Phase::Succeeded => format!("T{kind}"),
            Phase::Failed => "tidegate.job.failed".to_owned(),
            Phase::Cancelled => "tidegate.job.cancelled".to_owned(),
            _ => return self.ledger.violation(format!("job {id} did not end")),
        };
        let caused = Event {
            run: job.run.clone(),
            ..parent.clone()
        };
        self.entered(&format!("{id}-end"), &end, &caused);
    }

    /// The counters hold as many handlings as were committed.
    fn counts(&mut self) {
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        let done = self.markers.iter().filter(|(_, ending)| **ending == Ending::Done);
        let done = done.filter_map(|(key, _)| key.split_once('/'));
        for (function, event) in done.filter(|(function, _)| !function.starts_with('$')) {
            *expected.entry(function.to_owned()).or_default() += 1;
            if self.pipeline.behaviour(function, event).hot {
                *expected.entry(HOT.to_owned()).or_default() += 1;
            }
        }
        if expected != self.counters {
            let found = &self.counters;
            let text = format!("counters are {found:?}, committed handlings {expected:?}");
            self.ledger.violation(text);
        }
    }

    /// No job is left that no committed handling asked for, and each job's step has ended.
    fn job_ends(&mut self) {
        for id in std::mem::take(&mut self.jobs).into_keys() {
            self.ledger.violation(format!("job {id} was never asked for"));
        }
        for step in self.steps.values() {
            if matches!(step.state, StepState::Queued | StepState::Retry) {
                let (function, event) = (&step.function, &step.event);
                self.ledger
                    .violations
                    .push(format!("the step of {function} with {event} still waits"));
            }
        }
    }

    /// Every event came from outside or from something that was committed; every object from a commit.
    fn nothing_unexplained(&mut self) {
        for key in std::mem::take(&mut self.objects) {
            self.ledger
                .violation(format!("object `{key}` was published without its commit"));
        }
        let accepted: Vec<_> = self.ledger.accepted.clone().into_iter().collect();
        for (at, event) in accepted {
            if event.parent.is_some() && !self.explained.contains(&at) {
                self.ledger
                    .violation(format!("event {at:?} comes from nothing that was committed"));
            }
        }
    }
}
