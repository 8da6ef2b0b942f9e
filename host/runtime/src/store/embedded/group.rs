//! A group: units that are checked one after another, each against the store and those before it, and
//! written by one synced batch.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode};

use super::Core;
use super::queue::Ready;
use super::rows::{
    Head, ObjectRow, check_name, decode_value, delayed_key, due_of, encode_delayed, encode_value, entry_key,
    ready_key, split_delayed,
};
use crate::store::{
    CommitError, Condition, Count, Deferral, Enqueue, ObjectMeta, Publication, Receipt, StateWrite,
    StoreError, Unit, Versioned,
};

/// A unit whose rows are encoded, so that the writer does not have to.
pub(super) struct Prepared {
    settle: Vec<Receipt>,
    defer: Vec<Deferral>,
    state: Vec<(Vec<u8>, StateWrite)>,
    objects: Vec<(Vec<u8>, Publication)>,
    enqueue: Vec<Entering>,
    counts: Vec<Counting>,
}

struct Counting {
    row: Vec<u8>,
    count: Count,
    at_zero: Entering,
}

struct Entering {
    queue: String,
    not_before: Option<u64>,
    row: Vec<u8>,
    ready: Ready,
}

impl Prepared {
    /// Encodes a unit; refuses names and keys that the store cannot hold.
    pub(super) fn new(unit: Unit) -> Result<Self, StoreError> {
        let state = unit
            .state
            .into_iter()
            .map(|write| Ok((entry_key(&write.table, &write.key)?, write)));
        let objects = unit
            .objects
            .into_iter()
            .map(|object| Ok((entry_key(&object.bucket, &object.key)?, object)));
        let counts = unit.counts.into_iter().map(|count| {
            Ok(Counting {
                row: entry_key(&count.table, &count.key)?,
                at_zero: Entering::new(count.at_zero.clone())?,
                count,
            })
        });
        Ok(Self {
            settle: unit.settle,
            defer: unit.defer,
            state: state.collect::<Result<_, StoreError>>()?,
            objects: objects.collect::<Result<_, StoreError>>()?,
            enqueue: unit
                .enqueue
                .into_iter()
                .map(Entering::new)
                .collect::<Result<_, StoreError>>()?,
            counts: counts.collect::<Result<_, StoreError>>()?,
        })
    }
}

impl Entering {
    fn new(enqueue: Enqueue) -> Result<Self, StoreError> {
        check_name(&enqueue.queue)?;
        let head = Head {
            attempt: enqueue.attempt,
            group: enqueue.group,
            due: 0,
        };
        let row = head.encode(&enqueue.event)?;
        let ready = Ready {
            seq: 0,
            claim: 0,
            head,
            size: row.len(),
            event: enqueue.event,
        };
        Ok(Self {
            queue: enqueue.queue,
            not_before: enqueue.not_before,
            row,
            ready,
        })
    }
}

/// What a unit that may be committed changes, besides what it says itself.
struct Checked {
    /// The objects that its publications replace.
    replaced: Vec<Option<ObjectRow>>,
    /// The sums of its counts.
    sums: Vec<i64>,
}

/// What a unit took out of memory while it was checked, to be put back when it is refused.
#[derive(Default)]
struct Taken {
    events: Vec<(String, Ready)>,
    deferred: Vec<(String, Ready, Head)>,
    blobs: Vec<String>,
}

/// The units of one batch, and what they change.
pub(super) struct Group<'a> {
    core: &'a Core,
    now: u64,
    counter: u64,
    /// The last write of each key: its version and value. In the order in which the database keeps its rows, which takes
    /// neighbours faster.
    state: BTreeMap<Vec<u8>, (u64, Option<Bytes>)>,
    objects: BTreeMap<Vec<u8>, Option<ObjectRow>>,
    settled: Vec<(String, Ready)>,
    /// Events that stay in their places, as they were claimed and as they come again.
    deferred: Vec<(String, Ready, Head)>,
    ready: Vec<(String, u64, Vec<u8>, Option<Ready>)>,
    delayed: Vec<(String, Vec<u8>, Vec<u8>)>,
    /// Delayed rows whose time came, with their queue.
    promoted: Vec<(String, Vec<u8>)>,
    garbage: Vec<String>,
}

/// What the writer has to know of a group that is committed.
#[derive(Default)]
pub(super) struct Written {
    /// The counter of versions, sequencers and places.
    pub counter: u64,
    /// The earliest delayed row that the group added.
    pub delayed: Option<Vec<u8>>,
    /// Blobs that no row names any more.
    pub garbage: Vec<String>,
}

impl<'a> Group<'a> {
    pub(super) fn new(core: &'a Core, now: u64, counter: u64) -> Self {
        Self {
            core,
            now,
            counter,
            state: BTreeMap::new(),
            objects: BTreeMap::new(),
            settled: Vec::new(),
            deferred: Vec::new(),
            ready: Vec::new(),
            delayed: Vec::new(),
            promoted: Vec::new(),
            garbage: Vec::new(),
        }
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Checks a unit and adds it; refused, it leaves no trace.
    pub(super) fn admit(&mut self, unit: Prepared) -> Result<(), CommitError> {
        let mut taken = Taken::default();
        match self.check(&unit, &mut taken) {
            Ok(checked) => {
                self.settled.append(&mut taken.events);
                self.deferred.append(&mut taken.deferred);
                self.apply(unit, checked);
                Ok(())
            }
            Err(error) => {
                self.put_back(taken);
                Err(error)
            }
        }
    }

    fn put_back(&self, taken: Taken) {
        let deferred = taken.deferred.into_iter().map(|(queue, ready, _)| (queue, ready));
        for (queue, ready) in taken.events.into_iter().chain(deferred) {
            self.core.queues.hold_again(&queue, ready);
        }
        for blob in taken.blobs {
            self.core.blobs.put_back(blob, self.now);
        }
    }

    /// Checks everything.
    fn check(&self, unit: &Prepared, taken: &mut Taken) -> Result<Checked, CommitError> {
        for receipt in &unit.settle {
            let ready = self.take(receipt)?;
            taken.events.push((receipt.queue.clone(), ready));
        }
        for deferral in &unit.defer {
            let ready = self.take(&deferral.receipt)?;
            let head = Head {
                attempt: deferral.attempt,
                due: deferral.not_before,
                ..ready.head
            };
            taken.deferred.push((deferral.receipt.queue.clone(), ready, head));
        }
        for (row, write) in &unit.state {
            self.check_write(row, write)?;
        }
        let sums = unit.counts.iter().map(|counting| {
            let found = self.found(&counting.row)?;
            Ok(counting.count.sum(found.as_ref().map(|found| &found.value[..]))?)
        });
        let sums = sums.collect::<Result<_, CommitError>>()?;
        let replaced = unit
            .objects
            .iter()
            .map(|(row, publication)| self.check_object(row, publication, taken));
        Ok(Checked {
            replaced: replaced.collect::<Result<_, CommitError>>()?,
            sums,
        })
    }

    /// What a key holds after the units before this one.
    fn found(&self, row: &[u8]) -> Result<Option<Versioned>, StoreError> {
        if let Some((version, value)) = self.state.get(row) {
            return Ok(value.clone().map(|value| Versioned {
                value,
                version: *version,
            }));
        }
        // Whoever depends on a row has mostly read it just now.
        if let Some(kept) = self.core.cache.kept(row) {
            return Ok(kept);
        }
        let value = self.core.state.get(row).map_err(StoreError::new)?;
        value.map(|value| decode_value(&value)).transpose()
    }

    fn take(&self, receipt: &Receipt) -> Result<Ready, CommitError> {
        let taken = self.core.queues.take(receipt);
        taken.ok_or_else(|| CommitError::Lost {
            queue: receipt.queue.clone(),
            seq: receipt.seq,
        })
    }

    fn check_write(&self, row: &[u8], write: &StateWrite) -> Result<(), CommitError> {
        if write.condition == Condition::None {
            return Ok(());
        }
        let found = self.found(row)?.map(|found| found.version);
        write
            .condition
            .check(found, || (write.table.clone(), write.key.clone()))
    }

    fn check_object(
        &self,
        row: &[u8],
        publication: &Publication,
        taken: &mut Taken,
    ) -> Result<Option<ObjectRow>, CommitError> {
        let old = match self.objects.get(row) {
            Some(object) => object.clone(),
            None => match self.core.objects.get(row).map_err(StoreError::new)? {
                Some(object) => Some(ObjectRow::decode(&object)?),
                None => None,
            },
        };
        let found = old.as_ref().map(|old| old.meta.sequencer);
        let place = || (format!("objects:{}", publication.bucket), publication.key.clone());
        publication.condition.check(found, place)?;
        if let Some(staged) = &publication.staged {
            if !self.core.blobs.take(&staged.blob) {
                let gone = format!(
                    "staged blob `{}` is published already, or gone",
                    staged.blob.escape_debug()
                );
                return Err(StoreError(gone).into());
            }
            taken.blobs.push(staged.blob.clone());
        }
        Ok(old)
    }

    fn apply(&mut self, unit: Prepared, checked: Checked) {
        for (row, write) in unit.state {
            let version = self.count();
            self.state.insert(row, (version, write.value));
        }
        for ((row, publication), old) in unit.objects.into_iter().zip(checked.replaced) {
            self.garbage.extend(old.map(|old| old.blob));
            let object = self.published(publication);
            self.objects.insert(row, object);
        }
        for entering in unit.enqueue {
            self.enter(entering);
        }
        for (counting, sum) in unit.counts.into_iter().zip(checked.sums) {
            let version = self.count();
            self.state.insert(counting.row, (version, Count::value_of(sum)));
            if sum == 0 {
                self.enter(counting.at_zero);
            }
        }
    }

    fn published(&mut self, publication: Publication) -> Option<ObjectRow> {
        let staged = publication.staged?;
        let meta = ObjectMeta {
            key: publication.key,
            size: staged.size,
            etag: staged.etag,
            content_type: publication.content_type,
            modified: self.now,
            sequencer: self.count(),
            user: publication.user,
        };
        Some(ObjectRow {
            blob: staged.blob,
            meta,
        })
    }

    fn enter(&mut self, entering: Entering) {
        let seq = self.count();
        match entering.not_before.filter(|due| *due > self.now) {
            Some(due) => {
                let row = encode_delayed(&entering.queue, &entering.row);
                self.delayed.push((entering.queue, delayed_key(due, seq), row));
            }
            None => {
                let ready = Ready {
                    seq,
                    ..entering.ready
                };
                self.ready.push((entering.queue, seq, entering.row, Some(ready)));
            }
        }
    }

    /// Moves up to `max` delayed rows from `cursor` on whose time came into their queues; returns the last.
    pub(super) fn promote(&mut self, cursor: &[u8], max: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let mut last = None;
        for row in self.core.delayed.range(cursor..).take(max) {
            let (key, value) = row.into_inner().map_err(StoreError::new)?;
            if due_of(&key)? > self.now {
                break;
            }
            let (queue, event) = split_delayed(&value)?;
            let seq = self.count();
            self.ready.push((queue.to_owned(), seq, event.to_vec(), None));
            self.promoted.push((queue.to_owned(), key.to_vec()));
            last = Some(key.to_vec());
        }
        Ok(last)
    }

    fn is_empty(&self) -> bool {
        self.state.is_empty()
            && self.objects.is_empty()
            && self.settled.is_empty()
            && self.deferred.is_empty()
            && self.ready.is_empty()
            && self.delayed.is_empty()
    }

    /// Writes the batch and syncs it, then shows the changes to the queues in memory.
    pub(super) fn write(mut self) -> Result<Written, StoreError> {
        if self.is_empty() {
            return Ok(Written {
                counter: self.counter,
                ..Written::default()
            });
        }
        self.core.cache.begin(self.state.keys());
        let committed = self
            .batch()
            .and_then(|batch| batch.commit().map_err(|error| self.core.fail(&error)));
        self.core.cache.end();
        if let Err(error) = committed {
            let events = std::mem::take(&mut self.settled);
            let deferred = std::mem::take(&mut self.deferred);
            // The blobs stay: the journal may hold the unit that names them.
            self.put_back(Taken {
                events,
                deferred,
                blobs: Vec::new(),
            });
            return Err(error);
        }
        self.show();
        let delayed = self.delayed.into_iter().map(|(_, key, _)| key).min();
        Ok(Written {
            counter: self.counter,
            delayed,
            garbage: self.garbage,
        })
    }

    fn batch(&mut self) -> Result<OwnedWriteBatch, StoreError> {
        let core = self.core;
        let rows = self.state.len()
            + self.objects.len()
            + self.settled.len()
            + self.deferred.len()
            + self.ready.len()
            + self.delayed.len();
        let batch = OwnedWriteBatch::with_capacity(core.db.clone(), rows + self.promoted.len() + 1);
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for (row, (version, value)) in std::mem::take(&mut self.state) {
            match value {
                Some(value) => batch.insert(&core.state, row, encode_value(version, &value)),
                None => batch.remove(&core.state, row),
            }
        }
        for (row, object) in std::mem::take(&mut self.objects) {
            match object {
                Some(object) => batch.insert(
                    &core.objects,
                    row,
                    serde_json::to_vec(&object).map_err(StoreError::new)?,
                ),
                None => batch.remove(&core.objects, row),
            }
        }
        for (queue, ready) in &self.settled {
            batch.remove(&core.ready, ready_key(queue, ready.seq));
        }
        for (queue, ready, head) in &self.deferred {
            batch.insert(
                &core.ready,
                ready_key(queue, ready.seq),
                head.encode(&ready.event)?,
            );
        }
        for (queue, seq, row, _) in &mut self.ready {
            batch.insert(&core.ready, ready_key(queue, *seq), std::mem::take(row));
        }
        for (_, key, row) in &mut self.delayed {
            batch.insert(&core.delayed, key.as_slice(), std::mem::take(row));
        }
        for (_, key) in &self.promoted {
            batch.remove(&core.delayed, key.as_slice());
        }
        batch.insert(&core.meta, super::COUNTER, self.counter.to_be_bytes());
        Ok(batch)
    }

    fn show(&mut self) {
        let queues = &self.core.queues;
        for (queue, _, _) in &self.delayed {
            queues.queue(queue).count_delayed(1);
        }
        for (queue, _) in &self.promoted {
            queues.queue(queue).count_delayed(-1);
        }
        for (queue, ready) in &self.settled {
            queues.queue(queue).settled(ready);
        }
        for (queue, ready, head) in &self.deferred {
            queues.queue(queue).defer(ready.seq, head.due);
        }
        let mut touched = HashMap::new();
        for (name, seq, _, ready) in self.ready.drain(..) {
            let queue = queues.queue(&name);
            queue.arrive(seq, ready);
            touched.insert(name, queue);
        }
        touched.values().for_each(|queue| queue.wake());
    }
}
