//! A unit, with what is too large for rows put elsewhere: what stays the same however often it is tried.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::{
    CommitError, Condition, Count, Deferral, Enqueue, Group, Publication, Receipt, StateWrite, StoreError,
    Unit,
};

use crate::keys::{Key, hex};
use crate::queue::Held;
use crate::store::Core;
use crate::values::Stored;

/// A unit that is ready for tries.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) settle: Vec<Held>,
    pub(crate) defer: Vec<(Held, Deferral)>,
    pub(crate) state: Vec<Write>,
    pub(crate) objects: Vec<Publication>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) counts: Vec<Zero>,
    /// The count that ends with this unit, where it is zero.
    pub(crate) ends: Option<Key>,
}

/// A write of a key.
pub(crate) struct Write {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) value: Option<Stored>,
    /// When the table forgets it, in seconds.
    pub(crate) ttl: Option<u64>,
    pub(crate) condition: Condition,
}

/// An event that has no place yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewEvent {
    pub(crate) queue: String,
    #[serde(with = "hex::maybe", default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<Group>,
    pub(crate) event: Stored,
    pub(crate) due: Option<u64>,
    pub(crate) attempt: u32,
}

/// A count that is added to, and looked at afterwards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Zero {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) add: i64,
    pub(crate) at_zero: NewEvent,
}

impl Core {
    /// Finds what the receipts are of, and puts large values into the bucket.
    pub(super) async fn prepared(&self, unit: Unit) -> Result<Prepared, CommitError> {
        let deferred = unit.defer.iter().map(|deferral| &deferral.receipt);
        let mut settle = self.held_by(unit.settle.iter().chain(deferred))?;
        let defer = settle.split_off(unit.settle.len());
        staged_once(&unit.objects)?;
        let mut prepared = Prepared {
            settle,
            defer: defer.into_iter().zip(unit.defer).collect(),
            objects: unit.objects,
            ..Prepared::default()
        };
        for write in unit.state {
            prepared.state.push(self.write_of(write).await?);
        }
        for enqueue in unit.enqueue {
            prepared.events.push(self.new_event(enqueue).await?);
        }
        for count in unit.counts {
            prepared.counts.push(self.zero_of(count).await?);
        }
        Ok(prepared)
    }

    /// What receipts are of; each counts once.
    fn held_by<'r>(&self, receipts: impl Iterator<Item = &'r Receipt>) -> Result<Vec<Held>, CommitError> {
        let mut spent = HashSet::new();
        let held = receipts.map(|receipt| {
            let held = self.queues.held(receipt).filter(|_| spent.insert(receipt));
            held.ok_or_else(|| CommitError::Lost {
                queue: receipt.queue.clone(),
                seq: receipt.seq,
            })
        });
        held.collect()
    }

    async fn write_of(&self, write: StateWrite) -> Result<Write, StoreError> {
        if let Condition::Version(version) = write.condition {
            self.stamps.saw(version);
        }
        let value = match write.value {
            Some(value) => Some(self.keep(value).await?),
            None => None,
        };
        Ok(Write {
            ttl: value.as_ref().and_then(|_| self.forgotten_at(&write.table)),
            table: write.table,
            key: write.key,
            value,
            condition: write.condition,
        })
    }

    async fn new_event(&self, enqueue: Enqueue) -> Result<NewEvent, StoreError> {
        let event = serde_json::to_vec(&*enqueue.event).map_err(StoreError::new)?;
        Ok(NewEvent {
            queue: enqueue.queue,
            group: enqueue.group,
            event: self.keep(Bytes::from(event)).await?,
            due: enqueue.not_before,
            attempt: enqueue.attempt,
        })
    }

    async fn zero_of(&self, count: Count) -> Result<Zero, StoreError> {
        Ok(Zero {
            table: count.table,
            key: count.key,
            add: count.add,
            at_zero: self.new_event(count.at_zero).await?,
        })
    }
}

/// Refuses bytes that are to become two objects.
fn staged_once(objects: &[Publication]) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    for staged in objects.iter().filter_map(|object| object.staged.as_ref()) {
        if !seen.insert(&staged.blob) {
            let blob = staged.blob.escape_debug();
            return Err(StoreError(format!(
                "staged blob `{blob}` is published twice in one unit"
            )));
        }
    }
    Ok(())
}
