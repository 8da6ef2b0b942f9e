//! A unit in memory: checked whole, then applied whole.

use std::collections::HashSet;

use super::Inner;
use super::blobs::Blob;
use super::queue::Waiting;
use crate::store::{
    CommitError, Count, Deferral, Enqueue, ObjectMeta, Publication, Receipt, Staged, StateWrite, StoreError,
    Unit, Versioned,
};

impl Inner {
    pub(super) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn check(&self, unit: &Unit) -> Result<(), CommitError> {
        let deferred = unit.defer.iter().map(|deferral| &deferral.receipt);
        let mut spent = HashSet::new();
        for receipt in unit.settle.iter().chain(deferred) {
            let held = self
                .queues
                .get(&receipt.queue)
                .is_some_and(|queue| queue.holds(receipt));
            if !held || !spent.insert(receipt) {
                return Err(CommitError::Lost {
                    queue: receipt.queue.clone(),
                    seq: receipt.seq,
                });
            }
        }
        for StateWrite {
            table,
            key,
            condition,
            ..
        } in &unit.state
        {
            let found = self
                .tables
                .get(table)
                .and_then(|table| table.get(key))
                .map(|value| value.version);
            condition.check(found, || (table.clone(), key.clone()))?;
        }
        for count in &unit.counts {
            count.sum(self.number(count))?;
        }
        for (
            nth,
            Publication {
                bucket,
                key,
                condition,
                staged,
                ..
            },
        ) in unit.objects.iter().enumerate()
        {
            let found = self
                .buckets
                .get(bucket)
                .and_then(|bucket| bucket.get(key))
                .map(|blob| blob.meta.sequencer);
            condition.check(found, || (format!("objects:{bucket}"), key.clone()))?;
            let Some(Staged { blob, .. }) = staged else {
                continue;
            };
            let twice = unit.objects[..nth]
                .iter()
                .filter_map(|o| o.staged.as_ref())
                .any(|other| other.blob == *blob);
            if twice || !self.staged.contains_key(blob) {
                return Err(StoreError(format!("staged blob `{blob}` is published already, or gone")).into());
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, unit: Unit, now: u64) {
        for Receipt { queue, seq, .. } in unit.settle {
            self.queues.entry(queue).or_default().settle(seq);
        }
        for Deferral {
            receipt,
            not_before,
            attempt,
        } in unit.defer
        {
            let queue = self.queues.entry(receipt.queue).or_default();
            if let Some(waiting) = queue.claimed.remove(&receipt.seq) {
                let waiting = Waiting { attempt, ..waiting };
                queue.deferred.insert((not_before, receipt.seq), waiting);
            }
        }
        for StateWrite {
            table, key, value, ..
        } in unit.state
        {
            let version = self.count();
            let table = self.tables.entry(table).or_default();
            match value {
                Some(value) => table.insert(key, Versioned { value, version }),
                None => table.remove(&key),
            };
        }
        for publication in unit.objects {
            self.publish(publication, now);
        }
        for enqueue in unit.enqueue {
            self.enqueue(enqueue, now);
        }
        for count in unit.counts {
            self.add(count, now);
        }
    }

    /// What a count is added to.
    fn number(&self, count: &Count) -> Option<&[u8]> {
        let found = self.tables.get(&count.table)?.get(&count.key)?;
        Some(&found.value)
    }

    fn add(&mut self, count: Count, now: u64) {
        let Ok(sum) = count.sum(self.number(&count)) else {
            return;
        };
        let version = self.count();
        let table = self.tables.entry(count.table).or_default();
        match Count::value_of(sum) {
            Some(value) => drop(table.insert(count.key, Versioned { value, version })),
            None => {
                table.remove(&count.key);
                self.enqueue(count.at_zero, now);
            }
        }
    }

    fn enqueue(&mut self, enqueue: Enqueue, now: u64) {
        let Enqueue {
            queue,
            group,
            event,
            not_before,
            attempt,
        } = enqueue;
        let seq = self.count();
        let queue = self.queues.entry(queue).or_default();
        let waiting = Waiting {
            group,
            event,
            attempt,
            claim: 0,
        };
        match not_before.filter(|due| *due > now) {
            Some(due) => queue.delayed.insert((due, seq), waiting),
            None => {
                // Those that came due before this commit go first.
                queue.wake(now, &mut self.counter);
                self.counter += 1;
                queue.ready.insert(self.counter, waiting)
            }
        };
    }

    fn publish(&mut self, publication: Publication, now: u64) {
        let Publication {
            bucket,
            key,
            staged,
            content_type,
            user,
            ..
        } = publication;
        let sequencer = self.count();
        let bucket = self.buckets.entry(bucket).or_default();
        let Some(Staged { blob, size, etag }) = staged else {
            bucket.remove(&key);
            return;
        };
        let bytes = self.staged.remove(&blob).unwrap_or_default();
        let meta = ObjectMeta {
            key: key.clone(),
            size,
            etag,
            content_type,
            modified: now,
            sequencer,
            user,
        };
        bucket.insert(key, Blob { meta, bytes });
    }
}
