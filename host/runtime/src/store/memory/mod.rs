//! The store in memory: for tests and simulation. Nothing survives the process.

mod blobs;
mod queue;
mod unit;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use self::blobs::{Blob, Stage};
use self::queue::{Queue, Waiting};
use super::{
    CommitError, Delivery, Depth, ObjectMeta, ObjectReader, Order, Page, Receipt, StageWriter, Staged, Store,
    StoreError, Unit, Versioned,
};
use crate::clock::{Clock, SystemClock};

/// A store in memory.
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
    /// Some queue has new events.
    arrived: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Inner {
    counter: u64,
    tables: HashMap<String, BTreeMap<String, Versioned>>,
    buckets: HashMap<String, BTreeMap<String, Blob>>,
    staged: HashMap<String, Bytes>,
    queues: HashMap<String, Queue>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl Memory {
    /// An empty store that goes by a clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::default(),
            arrived: Notify::new(),
            clock,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Gives back everything that is claimed and not settled, as a crash of the process does.
    pub fn crash(&self) {
        for queue in self.inner().queues.values_mut() {
            let claimed = std::mem::take(&mut queue.claimed);
            queue.ready.extend(claimed);
        }
        self.arrived.notify_waiters();
    }

    /// Waits for the next event that is held back; for ever where there is none.
    async fn until_due(&self, due: Option<u64>) {
        let Some(due) = due else {
            return std::future::pending().await;
        };
        let nap = due.saturating_sub(self.clock.now_ms()).max(1);
        self.clock.sleep(Duration::from_millis(nap)).await;
    }

    /// Claims what there is; or tells when the next delayed event is due.
    fn try_claim(&self, name: &str, max: usize) -> Result<Vec<Delivery>, Option<u64>> {
        let (mut inner, now) = (self.inner(), self.clock.now_ms());
        let Inner { queues, counter, .. } = &mut *inner;
        let queue = queues.entry(name.to_owned()).or_default();
        queue.wake(now, counter);
        let mut deliveries = Vec::new();
        while deliveries.len() < max
            && let Some((seq, mut waiting)) = queue.next()
        {
            *counter += 1;
            waiting.claim = *counter;
            let Waiting {
                group,
                event,
                attempt,
                claim,
            } = waiting.clone();
            queue.claimed.insert(seq, waiting);
            deliveries.push(Delivery {
                receipt: Receipt {
                    queue: name.to_owned(),
                    seq,
                    claim,
                },
                group,
                event,
                attempt,
            });
        }
        if deliveries.is_empty() && max > 0 {
            return Err(queue.due());
        }
        Ok(deliveries)
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A page of a map, in either order.
fn page<V, T>(
    map: Option<&BTreeMap<String, V>>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    order: Order,
    entry: impl Fn(&String, &V) -> T,
) -> Page<T> {
    let Some(map) = map else {
        return Page {
            entries: Vec::new(),
            next: None,
        };
    };
    let all = map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    let all = all.take_while(|(key, _)| key.starts_with(prefix));
    let mut rows: Vec<_> = match order {
        Order::Ascending => all
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .collect(),
        Order::Descending => all
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() < after))
            .collect(),
    };
    if order == Order::Descending {
        rows.reverse();
    }
    let next = if rows.len() > limit {
        limit.checked_sub(1).and_then(|last| rows.get(last))
    } else {
        None
    };
    let next = next.map(|(key, _)| (*key).clone());
    Page {
        entries: rows
            .into_iter()
            .take(limit)
            .map(|(key, value)| entry(key, value))
            .collect(),
        next,
    }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, unit: Unit) -> Result<(), CommitError> {
        let mut inner = self.inner();
        inner.check(&unit)?;
        inner.apply(unit, self.clock.now_ms());
        drop(inner);
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn get(&self, table: &str, key: &str) -> Result<Option<Versioned>, StoreError> {
        Ok(self
            .inner()
            .tables
            .get(table)
            .and_then(|table| table.get(key))
            .cloned())
    }

    async fn get_many(&self, table: &str, keys: &[String]) -> Result<Vec<Option<Versioned>>, StoreError> {
        let inner = self.inner();
        let table = inner.tables.get(table);
        Ok(keys
            .iter()
            .map(|key| table.and_then(|table| table.get(key)).cloned())
            .collect())
    }

    async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError> {
        let inner = self.inner();
        Ok(page(
            inner.tables.get(table),
            prefix,
            after,
            limit,
            order,
            |key, value| (key.clone(), value.clone()),
        ))
    }

    async fn claim(&self, queue: &str, max: usize, wait: Duration) -> Result<Vec<Delivery>, StoreError> {
        let mut patience = self.clock.sleep(wait);
        let mut patient = true;
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let due = match self.try_claim(queue, max) {
                Ok(deliveries) => return Ok(deliveries),
                Err(_) if !patient => return Ok(Vec::new()),
                Err(due) => due,
            };
            tokio::select! {
                biased;
                () = &mut patience => patient = false,
                () = arrived => {}
                () = self.until_due(due) => {}
            }
        }
    }

    async fn unclaim(&self, receipts: &[Receipt]) -> Result<(), StoreError> {
        let mut inner = self.inner();
        for receipt in receipts {
            let Some(queue) = inner.queues.get_mut(&receipt.queue) else {
                continue;
            };
            if queue.holds(receipt)
                && let Some(waiting) = queue.claimed.remove(&receipt.seq)
            {
                queue.ready.insert(receipt.seq, waiting);
            }
        }
        drop(inner);
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn depth(&self, queue: &str) -> Result<Depth, StoreError> {
        let inner = self.inner();
        let Some(queue) = inner.queues.get(queue) else {
            return Ok(Depth::default());
        };
        let ready = queue.ready.len() + queue.claimed.len();
        Ok(Depth {
            ready: ready as u64,
            delayed: (queue.delayed.len() + queue.deferred.len()) as u64,
        })
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        Ok(self
            .inner()
            .buckets
            .get(bucket)
            .and_then(|bucket| bucket.get(key))
            .map(|blob| blob.meta.clone()))
    }

    async fn open(&self, bucket: &str, key: &str) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        let blob = self
            .inner()
            .buckets
            .get(bucket)
            .and_then(|bucket| bucket.get(key))
            .cloned();
        Ok(blob.map(|blob| Arc::new(blob) as Arc<dyn ObjectReader>))
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError> {
        let inner = self.inner();
        Ok(page(
            inner.buckets.get(bucket),
            prefix,
            after,
            limit,
            Order::Ascending,
            |_, blob| blob.meta.clone(),
        ))
    }

    async fn stage(&self) -> Result<Box<dyn StageWriter>, StoreError> {
        Ok(Box::new(Stage::new(self.inner.clone())))
    }

    async fn open_staged(&self, staged: &Staged) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let Staged { blob, size, etag } = staged.clone();
        let gone = || StoreError(format!("staged blob `{blob}` is gone"));
        let bytes = self.inner().staged.get(&blob).cloned().ok_or_else(gone)?;
        let (modified, user) = (self.clock.now_ms(), BTreeMap::new());
        let meta = ObjectMeta {
            key: String::new(),
            size,
            etag,
            content_type: None,
            modified,
            sequencer: 0,
            user,
        };
        Ok(Arc::new(Blob { meta, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn the_memory_store_keeps_the_contract() {
        let make = async || {
            let store = Arc::new(Memory::default()) as Arc<dyn Store>;
            (store, Box::new(()) as conformance::Guard)
        };
        conformance::run_all(make, conformance::Load::LOCAL).await;
    }
}
