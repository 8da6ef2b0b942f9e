//! Effects: what an invocation asked for, staged in order and within bounds, committed all at once.
//!
//! Reads inside the invocation see its own staged writes ([`Effects::state`], [`Effects::object`]); nobody
//! else does until the unit is committed.

mod join;
mod summary;
mod unit;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use join::{COUNTS, JOIN, JOINS};
pub use summary::{Change, Difference, Effect, Kind, Summary};
pub use unit::{Cause, DONE, Draft, Ending, done_key};

use crate::event::Join;
use crate::jobs::Terms;
use crate::store::{Condition, ObjectMeta, Publication, StateWrite};

/// How much one invocation may stage.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of state values, event data and keys together; objects are not counted, they are staged in the
    /// object store.
    pub bytes: u64,
    /// The number of writes, objects, jobs and events together.
    pub count: u64,
}

/// An event to emit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Emission {
    /// The id it will carry.
    pub id: String,
    /// The CloudEvents `type`.
    pub kind: String,
    /// The subject.
    pub subject: Option<String>,
    /// The media type of the data.
    pub content_type: Option<String>,
    /// The payload.
    #[serde(with = "crate::event::base64_bytes")]
    pub data: bytes::Bytes,
    /// Milliseconds to hold the event back.
    pub delay: Option<u64>,
    /// The join that it is a part of.
    pub part_of: Option<Join>,
}

impl Emission {
    fn size(&self) -> usize {
        self.data.len() + self.kind.len()
    }
}

/// A join to open.
#[derive(Debug, Clone)]
pub struct OpenedJoin {
    /// What names it in its parts.
    pub join: Join,
    /// The event that is emitted when every part is handled.
    pub then: Emission,
}

/// A job to submit.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job's id.
    pub id: String,
    /// For example `train.two-tower`.
    pub kind: String,
    /// In the words of the job kind.
    pub config: serde_json::Value,
    /// Object prefixes that the worker may read.
    pub reads: Vec<String>,
    /// Object prefixes that the worker may write.
    pub writes: Vec<String>,
    /// The `type` of the event that a success emits.
    pub emits: String,
    /// On which terms it is done.
    pub terms: Terms,
    /// The join that its end is a part of.
    pub part_of: Option<Join>,
}

/// Why an effect was not staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// A bound of the function's limits.
    #[error("limit `{name}` of {bound} reached")]
    Limit {
        /// The limit's key in the manifest.
        name: &'static str,
        /// Its value.
        bound: u64,
    },
    /// A condition that the invocation's own earlier write already breaks.
    #[error("key `{0}` was written earlier in this invocation, so its condition cannot hold")]
    Condition(String),
}

/// The ordered, bounded list of one invocation's effects.
#[derive(Debug)]
pub struct Effects {
    bounds: Bounds,
    bytes: u64,
    count: u64,
    state: BTreeMap<(String, String), StateWrite>,
    objects: BTreeMap<(String, String), (Publication, Option<ObjectMeta>)>,
    events: Vec<Emission>,
    jobs: Vec<Submission>,
    joins: Vec<OpenedJoin>,
}

/// The effects of a finished invocation, as plain data.
#[derive(Debug, Default)]
pub struct Staged {
    /// State writes, one for each key.
    pub state: Vec<StateWrite>,
    /// Objects, one for each key.
    pub objects: Vec<Publication>,
    /// Events, in the order they were emitted.
    pub events: Vec<Emission>,
    /// Jobs, in the order they were submitted.
    pub jobs: Vec<Submission>,
    /// Joins, in the order they were opened; their parts are among the events.
    pub joins: Vec<OpenedJoin>,
}

/// How many effects an invocation had, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectCounts {
    /// State writes.
    pub state: usize,
    /// Objects published or deleted.
    pub objects: usize,
    /// Events emitted, the parts of joins among them.
    pub events: usize,
    /// Jobs submitted.
    pub jobs: usize,
    /// Joins opened.
    pub joins: usize,
}

impl EffectCounts {
    /// All kinds together.
    pub fn total(&self) -> usize {
        self.state + self.objects + self.events + self.jobs + self.joins
    }
}

impl Staged {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.counts().total() == 0
    }

    /// How many effects there are.
    pub fn counts(&self) -> EffectCounts {
        EffectCounts {
            state: self.state.len(),
            objects: self.objects.len(),
            events: self.events.len(),
            jobs: self.jobs.len(),
            joins: self.joins.len(),
        }
    }
}

impl Effects {
    /// No effects yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: 0,
            count: 0,
            state: BTreeMap::new(),
            objects: BTreeMap::new(),
            events: Vec::new(),
            jobs: Vec::new(),
            joins: Vec::new(),
        }
    }

    /// Stages a state write. A second write of a key replaces the first and keeps its condition.
    pub fn write(&mut self, mut write: StateWrite) -> Result<(), StageError> {
        let size = write.key.len() + write.value.as_ref().map_or(0, |value| value.len());
        let at = (write.table.clone(), write.key.clone());
        if let Some(earlier) = self.state.get(&at) {
            let holds = match write.condition {
                Condition::None => true,
                Condition::Absent => earlier.value.is_none(),
                Condition::Version(_) => false,
            };
            if !holds {
                return Err(StageError::Condition(write.key));
            }
            write.condition = earlier.condition;
        }
        self.charge(size)?;
        self.state.insert(at, write);
        Ok(())
    }

    /// Stages a publication; `meta` is what this invocation sees of the object, none for a deletion.
    pub fn publish(&mut self, publication: Publication, meta: Option<ObjectMeta>) -> Result<(), StageError> {
        self.charge(publication.key.len())?;
        let at = (publication.bucket.clone(), publication.key.clone());
        self.objects.insert(at, (publication, meta));
        Ok(())
    }

    /// Stages an event.
    pub fn emit(&mut self, event: Emission) -> Result<(), StageError> {
        self.charge(event.size())?;
        self.events.push(event);
        Ok(())
    }

    /// Stages a join with all its parts, or nothing of it.
    pub fn join(&mut self, parts: Vec<Emission>, opened: OpenedJoin) -> Result<(), StageError> {
        let bytes: usize = parts.iter().map(Emission::size).sum();
        self.charge_for(parts.len() as u64 + 1, bytes.saturating_add(opened.then.size()))?;
        self.events.extend(parts);
        self.joins.push(opened);
        Ok(())
    }

    /// Stages a job.
    pub fn submit(&mut self, job: Submission, config_bytes: usize) -> Result<(), StageError> {
        self.charge(config_bytes)?;
        self.jobs.push(job);
        Ok(())
    }

    /// The number of ids given to events, jobs and joins so far: what makes the next one. A join has its own and that of
    /// its event.
    pub fn ordinal(&self) -> usize {
        self.events.len() + self.jobs.len() + 2 * self.joins.len()
    }

    /// The staged write of a key, if there is one.
    pub fn state(&self, table: &str, key: &str) -> Option<&StateWrite> {
        if self.state.is_empty() {
            return None;
        }
        self.state.get(&(table.to_owned(), key.to_owned()))
    }

    /// The staged writes of a table whose key starts with `prefix`.
    pub fn state_under<'a>(
        &'a self,
        table: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a StateWrite> + 'a {
        self.state
            .range((table.to_owned(), prefix.to_owned())..)
            .take_while(move |((t, key), _)| t == table && key.starts_with(prefix))
            .map(|(_, write)| write)
    }

    /// The staged publication (or, without metadata, deletion) of an object, if there is one.
    pub fn object(&self, bucket: &str, key: &str) -> Option<(&Publication, Option<&ObjectMeta>)> {
        self.objects
            .get(&(bucket.to_owned(), key.to_owned()))
            .map(|(publication, meta)| (publication, meta.as_ref()))
    }

    /// The staged publications and deletions of a bucket whose key starts with `prefix`.
    pub fn objects_under<'a>(
        &'a self,
        bucket: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, Option<&'a ObjectMeta>)> + 'a {
        self.objects
            .range((bucket.to_owned(), prefix.to_owned())..)
            .take_while(move |((b, key), _)| b == bucket && key.starts_with(prefix))
            .map(|((_, key), (_, meta))| (key.as_str(), meta.as_ref()))
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Staged {
        Staged {
            state: std::mem::take(&mut self.state).into_values().collect(),
            objects: std::mem::take(&mut self.objects)
                .into_values()
                .map(|(publication, _)| publication)
                .collect(),
            events: std::mem::take(&mut self.events),
            jobs: std::mem::take(&mut self.jobs),
            joins: std::mem::take(&mut self.joins),
        }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), StageError> {
        self.charge_for(1, bytes)
    }

    fn charge_for(&mut self, count: u64, bytes: usize) -> Result<(), StageError> {
        let bytes = self.bytes.saturating_add(bytes as u64);
        if bytes > self.bounds.bytes {
            return Err(StageError::Limit {
                name: "effects_bytes",
                bound: self.bounds.bytes,
            });
        }
        let count = self.count.saturating_add(count);
        if count > self.bounds.count {
            return Err(StageError::Limit {
                name: "effects_count",
                bound: self.bounds.count,
            });
        }
        self.bytes = bytes;
        self.count = count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(key: &str, value: &'static str, condition: Condition) -> StateWrite {
        StateWrite {
            table: "t".into(),
            key: key.into(),
            value: Some(Bytes::from_static(value.as_bytes())),
            condition,
        }
    }

    fn effects(bytes: u64, count: u64) -> Effects {
        Effects::new(Bounds { bytes, count })
    }

    #[test]
    fn a_second_write_replaces_the_first_and_keeps_its_condition() {
        let mut effects = effects(1000, 10);
        effects.write(put("k", "one", Condition::Version(7))).unwrap();
        effects.write(put("k", "two", Condition::None)).unwrap();
        let staged = effects.take();
        assert_eq!(staged.state, vec![put("k", "two", Condition::Version(7))]);
    }

    #[test]
    fn a_condition_that_an_earlier_write_breaks_is_refused() {
        let mut effects = effects(1000, 10);
        effects.write(put("k", "one", Condition::None)).unwrap();
        let refused = effects.write(put("k", "two", Condition::Absent)).unwrap_err();
        assert_eq!(refused, StageError::Condition("k".into()));
    }

    #[test]
    fn bounds_are_named_when_they_are_reached() {
        let mut effects = effects(8, 2);
        let refused = effects.write(put("k", "123456789", Condition::None)).unwrap_err();
        assert_eq!(refused.to_string(), "limit `effects_bytes` of 8 reached");
        effects.write(put("a", "1", Condition::None)).unwrap();
        effects.write(put("b", "1", Condition::None)).unwrap();
        let refused = effects.write(put("c", "1", Condition::None)).unwrap_err();
        assert_eq!(refused.to_string(), "limit `effects_count` of 2 reached");
    }

    #[test]
    fn a_prefix_scan_sees_only_its_table() {
        let mut effects = effects(1000, 10);
        effects.write(put("a/1", "x", Condition::None)).unwrap();
        effects.write(put("b/1", "x", Condition::None)).unwrap();
        let mut other = put("a/2", "x", Condition::None);
        other.table = "u".into();
        effects.write(other).unwrap();
        let keys: Vec<_> = effects
            .state_under("t", "a/")
            .map(|write| write.key.clone())
            .collect();
        assert_eq!(keys, ["a/1"]);
    }
}
