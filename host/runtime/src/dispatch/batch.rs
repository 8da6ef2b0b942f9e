//! Batches: events that are gathered and handled together, and halved when they fail.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{CLAIM, CLAIM_WAIT, Dispatcher, Ran};
use crate::manifest::Batch;
use crate::sandbox::Failure;
use crate::store::{Delivery, Receipt};

/// Deliveries that are handled together; never none.
pub(super) type Group = Vec<Delivery>;

impl Dispatcher {
    /// Handles the queue in batches: one invocation each, so many at one time.
    pub(super) async fn run_batches(self: Arc<Self>, batch: Batch) {
        let slots = Arc::new(Semaphore::new(self.spec.limits.concurrency as usize));
        let mut ahead = VecDeque::new();
        while let Some(Ok(slot)) = self.stop.run_until_cancelled(slots.clone().acquire_owned()).await {
            if self.stop.run_until_cancelled(self.rate_allows()).await.is_none() {
                break;
            }
            let group = self.gather(&batch, &mut ahead).await;
            if group.is_empty() {
                continue;
            }
            self.spend(1);
            let dispatcher = self.clone();
            self.services.spawn(async move {
                dispatcher.handle_in_turn(group).await;
                drop(slot);
            });
        }
        let ahead: Vec<Receipt> = ahead.into_iter().map(|delivery| delivery.receipt).collect();
        if !ahead.is_empty() {
            self.give_back(&ahead).await;
        }
    }

    /// Waits for a first event, and then for as many as the batch takes, until its window closes. What was claimed
    /// beyond it stays `ahead`, for the next.
    async fn gather(&self, batch: &Batch, ahead: &mut VecDeque<Delivery>) -> Group {
        let queue = self.spec.queue();
        let mut gathering = Gathering::new(batch);
        let mut closes = None;
        loop {
            gathering.fill(ahead);
            if gathering.is_full() || !ahead.is_empty() {
                break;
            }
            let now = self.services.clock.now_ms();
            let wait = match (gathering.group.is_empty(), closes) {
                (true, _) => CLAIM_WAIT,
                (false, closes) => Duration::from_millis(closes.unwrap_or(now).saturating_sub(now)),
            };
            let claim = self
                .services
                .store
                .claim(&queue, gathering.room().min(CLAIM), wait);
            match self.stop.run_until_cancelled(claim).await {
                Some(Ok(claimed)) if !claimed.is_empty() => ahead.extend(claimed),
                Some(Err(error)) if gathering.group.is_empty() => {
                    self.pause(&error, Duration::from_secs(1)).await;
                    break;
                }
                // Nothing more came, or what is there goes first.
                _ => break,
            }
            let now = self.services.clock.now_ms();
            closes.get_or_insert(now.saturating_add(batch.window.as_millis() as u64));
        }
        gathering.group
    }

    /// What to try instead of a group that the guest failed: its halves, until what fails stands alone. Only there it
    /// counts as an attempt.
    pub(super) async fn failed_together(&self, mut group: Group, failure: Failure, ran: Ran) -> Vec<Group> {
        if let [alone] = group.as_slice() {
            self.failed(alone, failure, ran).await;
            return Vec::new();
        }
        let (function, events) = (&self.spec.name, group.len());
        tracing::info!(function, events, reason = %failure, "a batch failed and is halved");
        if let Some(first) = group.first() {
            self.count(&first.event, &ran, Some(&failure));
        }
        let second = group.split_off(group.len().div_ceil(2));
        let halves = vec![group, second];
        self.spend(halves.len());
        halves
    }
}

/// Splits off deliveries of events that another delivery in the group is of: each event is handled once at a time.
pub(super) fn distinct(group: Group) -> (Group, Group) {
    let mut seen = HashSet::new();
    group
        .into_iter()
        .partition(|delivery| seen.insert(delivery.event.id.clone()))
}

/// A batch in the making.
pub(super) struct Gathering<'a> {
    batch: &'a Batch,
    pub(super) group: Group,
    bytes: u64,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self {
            batch,
            group: Vec::new(),
            bytes: 0,
        }
    }

    /// Events that it takes more.
    fn room(&self) -> usize {
        (self.batch.size as usize).saturating_sub(self.group.len())
    }

    fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Takes what fits, in order; an event that is larger than a whole batch fits alone.
    pub(super) fn fill(&mut self, from: &mut VecDeque<Delivery>) {
        while !self.is_full()
            && let Some(next) = from.pop_front()
        {
            let bytes = self.bytes.saturating_add(next.event.data.len() as u64);
            if bytes > self.batch.bytes && !self.group.is_empty() {
                return from.push_front(next);
            }
            self.bytes = bytes;
            self.group.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Event;

    fn delivery(event: &str, seq: u64, bytes: usize) -> Delivery {
        let event = Event {
            id: event.into(),
            source: "/events".into(),
            kind: "T".into(),
            subject: None,
            time: 0,
            content_type: None,
            data: Bytes::from(vec![0; bytes]),
            traceparent: String::new(),
            run: "r".into(),
            parent: None,
            part_of: None,
        };
        Delivery {
            receipt: Receipt {
                queue: "f".into(),
                seq,
                claim: 1,
            },
            group: None,
            event: Arc::new(event),
            attempt: 1,
        }
    }

    fn ids(group: &[Delivery]) -> Vec<&str> {
        group.iter().map(|delivery| delivery.event.id.as_str()).collect()
    }

    #[test]
    fn a_batch_takes_what_fits_and_leaves_the_rest_in_order() {
        let batch = Batch {
            size: 3,
            bytes: 100,
            window: Duration::ZERO,
        };
        let mut waiting: VecDeque<_> = [("a", 60), ("b", 30), ("c", 20), ("d", 500), ("e", 1), ("f", 1)]
            .into_iter()
            .zip(1..)
            .map(|((event, bytes), seq)| delivery(event, seq, bytes))
            .collect();
        let mut take = || {
            let mut gathering = Gathering::new(&batch);
            gathering.fill(&mut waiting);
            ids(&gathering.group).join("")
        };
        assert_eq!([take(), take(), take(), take()], ["ab", "c", "d", "ef"]);
    }

    #[test]
    fn an_event_is_in_a_batch_once() {
        let group = vec![delivery("a", 1, 0), delivery("b", 2, 0), delivery("a", 3, 0)];
        let (group, twins) = distinct(group);
        assert_eq!((ids(&group), ids(&twins)), (vec!["a", "b"], vec!["a"]));
    }
}
