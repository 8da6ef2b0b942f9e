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

use super::Core;
use super::lanes::Lanes;
use super::rows::{Head, decode_event, ready_key, split_ready_key};
use crate::clock::Clock;
use crate::event::Event;
use crate::store::{Delivery, Depth, Receipt, StoreError};

/// Events that a window holds at most.
const WINDOW: usize = 512;
/// Bytes of events that a window holds at most; one event more than that is held alone.
const WINDOW_BYTES: usize = 1 << 20;

/// Events whose groups are held that one look passes over, so that nobody waits long for it.
const PASSED: usize = 4096;
/// The longest wait for an event that is held back: the machine's clock may be set.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// Where the events of a queue come from.
pub(super) struct Source<'a> {
    name: &'a str,
    rows: &'a Keyspace,
    clock: &'a dyn Clock,
}

impl Core {
    /// Where the events of this queue come from.
    pub(super) fn source<'a>(&'a self, queue: &'a str) -> Source<'a> {
        Source {
            name: queue,
            rows: &self.ready,
            clock: &*self.clock,
        }
    }
}

impl Source<'_> {
    /// The event of a place; none where it cannot be decoded.
    fn read(&self, seq: u64) -> Result<Option<Ready>, StoreError> {
        let row = self
            .rows
            .get(ready_key(self.name, seq))
            .map_err(StoreError::new)?;
        let ready = row.map(|row| Ready::decode(seq, &row)).transpose();
        Ok(ready.unwrap_or_else(|error| {
            self.undecodable(seq, &error);
            None
        }))
    }

    fn undecodable(&self, seq: u64, error: &StoreError) {
        let queue = self.name;
        tracing::error!(queue, seq, %error, "an event cannot be decoded, it stays in the store until the next start");
    }
}

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
    /// The number of its delivery, where it is claimed.
    pub claim: u64,
    /// What its row says of it.
    pub head: Head,
    /// The size of its row.
    pub size: usize,
    /// The event.
    pub event: Arc<Event>,
}

impl Ready {
    fn decode(seq: u64, row: &[u8]) -> Result<Self, StoreError> {
        let (head, event) = Head::split(row)?;
        Ok(Self {
            seq,
            claim: 0,
            head,
            size: row.len(),
            event: Arc::new(decode_event(event)?),
        })
    }
}

#[derive(Default)]
struct Heads {
    /// The next events, without a gap up to `loaded`.
    window: VecDeque<Ready>,
    window_bytes: usize,
    /// Given back unhandled; they come first.
    returned: BTreeMap<u64, Ready>,
    claimed: HashMap<u64, Ready>,
    /// The number of the last delivery.
    claims: u64,
    /// Events that wait for others of their groups.
    lanes: Lanes,
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
        self.existing(&receipt.queue)?.heads().take(receipt)
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
            if let Some(ready) = heads.take(receipt) {
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
        source: &Source<'_>,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let now = source.clock.now_ms();
            let (found, due) = {
                let mut heads = self.heads();
                (heads.claim(source, now, max)?, heads.lanes.due())
            };
            match found {
                Found::Events(claimed) if !claimed.is_empty() || max == 0 => return Ok(claimed),
                Found::Events(_) => {}
                Found::NoneYet => {
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            let nap = due.map(|due| Duration::from_millis(due.saturating_sub(now)).min(LONGEST_NAP));
            let until = nap.map_or(deadline, |nap| deadline.min(Instant::now() + nap));
            if tokio::time::timeout_at(until, arrived).await.is_err() && until == deadline {
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

    /// An event left the queue: the next of its group follows.
    pub(super) fn settled(&self, ready: &Ready) {
        if let Some(group) = ready.head.group {
            self.heads().lanes.settled(group);
            self.wake();
        }
    }

    /// An event comes again in its place.
    pub(super) fn defer(&self, seq: u64, due: u64) {
        self.heads().lanes.defer(seq, due);
        self.wake();
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
        let (waiting, deferred) = heads.lanes.depth();
        Depth {
            ready: in_memory as u64 + heads.on_disk + waiting,
            delayed: heads.delayed + deferred,
        }
    }
}

impl Heads {
    fn has_room(&self) -> bool {
        self.window.len() < WINDOW && self.window_bytes < WINDOW_BYTES
    }

    /// Takes out what was claimed by this very delivery.
    fn take(&mut self, receipt: &Receipt) -> Option<Ready> {
        let held = self.claimed.get(&receipt.seq)?.claim == receipt.claim;
        held.then(|| self.claimed.remove(&receipt.seq)).flatten()
    }

    fn push(&mut self, ready: Ready) {
        self.loaded = ready.seq;
        self.window_bytes += ready.size;
        self.window.push_back(ready);
    }

    fn claim(&mut self, source: &Source<'_>, now: u64, max: usize) -> Result<Found, StoreError> {
        let mut deliveries = Vec::new();
        let mut passed = 0;
        while deliveries.len() < max {
            let ready = match self.next(source, now, &mut passed) {
                Ok(Next::Event(ready)) => ready,
                Ok(Next::Passed) if deliveries.is_empty() => return Ok(Found::NoneYet),
                // What is claimed so far is handed out; the error comes again with the next claim.
                Err(error) if deliveries.is_empty() => return Err(error),
                Ok(_) | Err(_) => break,
            };
            deliveries.push(self.hand_out(source.name, ready));
        }
        Ok(Found::Events(deliveries))
    }

    fn hand_out(&mut self, queue: &str, mut ready: Ready) -> Delivery {
        self.claims += 1;
        ready.claim = self.claims;
        let delivery = Delivery {
            receipt: Receipt {
                queue: queue.to_owned(),
                seq: ready.seq,
                claim: ready.claim,
            },
            group: ready.head.group,
            event: ready.event.clone(),
            attempt: ready.head.attempt,
        };
        self.claimed.insert(ready.seq, ready);
        delivery
    }

    /// The next event that can be claimed: given back, next in its group, or next in the queue.
    fn next(&mut self, source: &Source<'_>, now: u64, passed: &mut usize) -> Result<Next, StoreError> {
        if let Some((_, ready)) = self.returned.pop_first() {
            return Ok(Next::Event(ready));
        }
        while let Some(seq) = self.lanes.next(now) {
            match source.read(seq) {
                Ok(Some(ready)) => return Ok(Next::Event(ready)),
                Ok(None) => {}
                Err(error) => {
                    self.lanes.put_back(seq);
                    return Err(error);
                }
            }
        }
        while *passed < PASSED {
            if self.window.is_empty() && self.on_disk > 0 {
                *passed += self.load(source, now)?;
            }
            let Some(ready) = self.window.pop_front() else {
                if self.on_disk > 0 {
                    continue;
                }
                return Ok(Next::Nothing);
            };
            self.window_bytes -= ready.size;
            if self.lanes.enter(ready.head.group, ready.seq) {
                return Ok(Next::Event(ready));
            }
            *passed += 1;
        }
        Ok(Next::Passed)
    }

    /// Fills the window from the rows, and returns how many waited in their groups. What cannot be decoded is
    /// passed over until the next start.
    fn load(&mut self, source: &Source<'_>, now: u64) -> Result<usize, StoreError> {
        let (first, last) = (
            ready_key(source.name, self.loaded + 1),
            ready_key(source.name, self.tail),
        );
        let mut parked = 0;
        for row in source.rows.range(first..=last) {
            let (key, value) = row.into_inner().map_err(StoreError::new)?;
            let (_, seq) = split_ready_key(&key)?;
            self.on_disk = self.on_disk.saturating_sub(1);
            self.loaded = seq;
            match self.unless_it_waits(seq, &value, now) {
                Ok(Some(ready)) => self.push(ready),
                Ok(None) => parked += 1,
                Err(error) => source.undecodable(seq, &error),
            }
            if !self.has_room() || parked >= PASSED {
                return Ok(parked);
            }
        }
        self.on_disk = 0;
        Ok(parked)
    }

    /// The event of a row; none where it has to wait, because its group is held or it is not due yet: its place is
    /// enough then.
    fn unless_it_waits(&mut self, seq: u64, row: &[u8], now: u64) -> Result<Option<Ready>, StoreError> {
        let (head, _) = Head::split(row)?;
        match head.group {
            Some(group) if head.due > now => self.lanes.enter_deferred(group, seq, head.due),
            Some(group) if self.lanes.is_held(group) => self.lanes.park(group, seq),
            _ => return Ready::decode(seq, row).map(Some),
        }
        Ok(None)
    }
}

/// What a claim found.
enum Found {
    /// So many, or none.
    Events(Vec<Delivery>),
    /// Only events whose groups are held; there are more to look at.
    NoneYet,
}

/// What may be claimed next.
enum Next {
    Event(Ready),
    Nothing,
    /// Enough was passed over for one time.
    Passed,
}
