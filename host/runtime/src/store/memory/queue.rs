//! One queue in memory: what is ready, claimed, and held back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::event::Event;
use crate::store::{Group, Receipt};

#[derive(Default)]
pub(super) struct Queue {
    pub(super) ready: BTreeMap<u64, Waiting>,
    pub(super) claimed: HashMap<u64, Waiting>,
    pub(super) delayed: BTreeMap<(u64, u64), Waiting>,
    /// Events that come again in their places, by the time they are due.
    pub(super) deferred: BTreeMap<(u64, u64), Waiting>,
    /// The place that each group waits for.
    held: HashMap<Group, u64>,
}

#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) group: Option<Group>,
    pub(super) event: Arc<Event>,
    pub(super) attempt: u32,
    /// The number of its delivery, where it is claimed.
    pub(super) claim: u64,
}

impl Queue {
    /// Moves the events whose time came behind those that are ready.
    pub(super) fn wake(&mut self, now: u64, counter: &mut u64) {
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            *counter += 1;
            self.ready.insert(*counter, first.remove());
        }
        while let Some(first) = self.deferred.first_entry()
            && first.key().0 <= now
        {
            let (_, seq) = *first.key();
            self.ready.insert(seq, first.remove());
        }
    }

    /// When the next event is due that is held back.
    pub(super) fn due(&self) -> Option<u64> {
        let first = |rows: &BTreeMap<(u64, u64), Waiting>| rows.first_key_value().map(|((due, _), _)| *due);
        first(&self.delayed)
            .into_iter()
            .chain(first(&self.deferred))
            .min()
    }

    /// Takes out the first event whose group does not wait for another.
    pub(super) fn next(&mut self) -> Option<(u64, Waiting)> {
        let free = |seq: u64, group: Group| self.held.get(&group).is_none_or(|held| *held == seq);
        let seq = *self
            .ready
            .iter()
            .find(|(seq, waiting)| waiting.group.is_none_or(|group| free(**seq, group)))?
            .0;
        let waiting = self.ready.remove(&seq)?;
        self.held.extend(waiting.group.map(|group| (group, seq)));
        Some((seq, waiting))
    }

    pub(super) fn holds(&self, receipt: &Receipt) -> bool {
        self.claimed
            .get(&receipt.seq)
            .is_some_and(|waiting| waiting.claim == receipt.claim)
    }

    pub(super) fn settle(&mut self, seq: u64) {
        let group = self.claimed.remove(&seq).and_then(|waiting| waiting.group);
        if let Some(group) = group {
            self.held.remove(&group);
        }
    }
}
