//! Queue heads in memory: what is claimed, what comes next.
//!
//! The rows are in the database; each queue keeps the next few in a window, so that a claim costs no read
//! and no scan ever passes over the tombstones of settled events.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use fjall::Keyspace;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::rows::{decode_event, ready_key, split_ready_key};
use crate::event::Event;
use crate::store::{Delivery, Depth, Receipt, StoreError};

/// Events that a window holds at most.
const WINDOW: usize = 512;
/// Bytes of events that a window holds at most; one event more than that is held alone.
const WINDOW_BYTES: usize = 1 << 20;

/// All queues, by name.
#[derive(Default)]
pub(super) struct Queues {
    queues: RwLock<HashMap<String, Arc<Queue>>>,
}

/// One queue.
#[derive(Default)]
pub(super) struct Queue {
    heads: Mutex<Heads>,
    arrived: Notify,
}

/// An event that waits or is claimed.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// Its place.
    pub seq: u64,
    /// The attempt that its delivery is.
    pub attempt: u32,
    /// The size of its row.
    pub size: usize,
    /// The event.
    pub event: Arc<Event>,
}

#[derive(Default)]
struct Heads {
    /// The next events, without a gap up to `loaded`.
    window: VecDeque<Ready>,
    window_bytes: usize,
    /// Given back unhandled; they come first.
    returned: BTreeMap<u64, Ready>,
    claimed: HashMap<u64, Ready>,
    /// Every row up to here is in memory, or gone.
    loaded: u64,
    /// The last row that is committed.
    tail: u64,
    /// Rows in `(loaded, tail]`.
    on_disk: u64,
    delayed: u64,
}

impl Queues {
    /// The heads of all the rows that a crash or a stop left.
    pub(super) fn recover(ready: &Keyspace) -> Result<Self, StoreError> {
        let queues = Self::default();
        for row in ready.iter() {
            let key = row.key().map_err(StoreError::new)?;
            let (name, seq) = split_ready_key(&key)?;
            let queue = queues.queue(name);
            let mut heads = queue.heads();
            if heads.on_disk == 0 {
                heads.loaded = seq.saturating_sub(1);
            }
            heads.on_disk += 1;
            heads.tail = seq;
        }
        Ok(queues)
    }

    /// The queue of that name, empty if it is new.
    pub(super) fn queue(&self, name: &str) -> Arc<Queue> {
        if let Some(queue) = self.existing(name) {
            return queue;
        }
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.entry(name.to_owned()).or_default().clone()
    }

    /// The queue of that name, if anything was ever asked of it.
    pub(super) fn existing(&self, name: &str) -> Option<Arc<Queue>> {
        self.queues
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Takes the claimed event of a receipt out of its queue.
    pub(super) fn take(&self, receipt: &Receipt) -> Option<Ready> {
        self.existing(&receipt.queue)?
            .heads()
            .claimed
            .remove(&receipt.seq)
    }

    /// Undoes [`Queues::take`].
    pub(super) fn hold_again(&self, queue: &str, ready: Ready) {
        self.queue(queue).heads().claimed.insert(ready.seq, ready);
    }

    /// Makes claimed events claimable again.
    pub(super) fn give_back(&self, receipts: &[Receipt]) {
        for receipt in receipts {
            let Some(queue) = self.existing(&receipt.queue) else {
                continue;
            };
            let mut heads = queue.heads();
            if let Some(ready) = heads.claimed.remove(&receipt.seq) {
                heads.returned.insert(ready.seq, ready);
                drop(heads);
                queue.arrived.notify_waiters();
            }
        }
    }
}

impl Queue {
    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to `max` events, waiting up to `wait` for the first. Dropped while it waits, it has claimed nothing.
    pub(super) async fn claim(
        &self,
        name: &str,
        rows: &Keyspace,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let claimed = self.heads().claim(name, rows, max)?;
            if !claimed.is_empty() || max == 0 {
                return Ok(claimed);
            }
            if tokio::time::timeout_at(deadline, arrived).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    /// A committed row that is not in memory yet; with its event, if that is at hand.
    pub(super) fn arrive(&self, seq: u64, ready: Option<Ready>) {
        let mut heads = self.heads();
        heads.tail = seq;
        match ready {
            Some(ready) if heads.on_disk == 0 && heads.has_room() => heads.push(ready),
            _ => heads.on_disk += 1,
        }
    }

    /// Wakes those who wait for an event.
    pub(super) fn wake(&self) {
        self.arrived.notify_waiters();
    }

    /// Counts events that are held back now, or not any more.
    pub(super) fn count_delayed(&self, change: i64) {
        let mut heads = self.heads();
        heads.delayed = heads.delayed.saturating_add_signed(change);
    }

    pub(super) fn depth(&self) -> Depth {
        let heads = self.heads();
        let in_memory = heads.window.len() + heads.returned.len() + heads.claimed.len();
        Depth {
            ready: in_memory as u64 + heads.on_disk,
            delayed: heads.delayed,
        }
    }
}

impl Heads {
    fn has_room(&self) -> bool {
        self.window.len() < WINDOW && self.window_bytes < WINDOW_BYTES
    }

    fn push(&mut self, ready: Ready) {
        self.loaded = ready.seq;
        self.window_bytes += ready.size;
        self.window.push_back(ready);
    }

    fn claim(&mut self, name: &str, rows: &Keyspace, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries = Vec::new();
        while deliveries.len() < max {
            let ready = match self.next(name, rows) {
                Ok(Some(ready)) => ready,
                // What is claimed so far is handed out; the error comes again with the next claim.
                Err(error) if deliveries.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            };
            deliveries.push(Delivery {
                receipt: Receipt {
                    queue: name.to_owned(),
                    seq: ready.seq,
                },
                event: ready.event.clone(),
                attempt: ready.attempt,
            });
            self.claimed.insert(ready.seq, ready);
        }
        Ok(deliveries)
    }

    fn next(&mut self, name: &str, rows: &Keyspace) -> Result<Option<Ready>, StoreError> {
        if let Some((_, ready)) = self.returned.pop_first() {
            return Ok(Some(ready));
        }
        if self.window.is_empty() && self.on_disk > 0 {
            self.load(name, rows)?;
        }
        let ready = self.window.pop_front();
        self.window_bytes -= ready.as_ref().map_or(0, |ready| ready.size);
        Ok(ready)
    }

    /// Fills the window from the rows. What cannot be decoded is passed over until the next start.
    fn load(&mut self, name: &str, rows: &Keyspace) -> Result<(), StoreError> {
        let (first, last) = (ready_key(name, self.loaded + 1), ready_key(name, self.tail));
        for row in rows.range(first..=last) {
            let (key, value) = row.into_inner().map_err(StoreError::new)?;
            let (_, seq) = split_ready_key(&key)?;
            self.on_disk = self.on_disk.saturating_sub(1);
            match decode_event(&value) {
                Ok((attempt, event)) => {
                    self.push(Ready {
                        seq,
                        attempt,
                        size: value.len(),
                        event: Arc::new(event),
                    });
                }
                Err(error) => {
                    tracing::error!(queue = name, seq, %error, "an event cannot be decoded, it stays in the store");
                    self.loaded = seq;
                }
            }
            if !self.has_room() {
                return Ok(());
            }
        }
        self.on_disk = 0;
        Ok(())
    }
}
