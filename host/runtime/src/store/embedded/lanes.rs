//! Groups of a queue: of each, one event is on its way, and the others wait behind it.
//!
//! Those that wait are known by their places alone, eight bytes each; their rows are read when their turn comes.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::store::Group;

/// The groups that are held by an event, from its claim to its settlement.
#[derive(Default)]
pub(super) struct Lanes {
    /// The places that wait behind the event that holds the group, in order.
    waiting: HashMap<Group, VecDeque<u64>>,
    /// All those together.
    parked: u64,
    /// Places that hold their groups and can be claimed.
    free: BTreeSet<u64>,
    /// Places that hold their groups and cannot be claimed yet, by the time they are due.
    deferred: BTreeSet<(u64, u64)>,
}

impl Lanes {
    /// Whether an event may be claimed now; it holds its group then. Otherwise its place waits in it.
    pub(super) fn enter(&mut self, group: Option<Group>, seq: u64) -> bool {
        let Some(group) = group else { return true };
        let free = self.hold(group);
        if !free {
            self.park(group, seq);
        }
        free
    }

    /// An event that is not due yet holds its group, or waits in it.
    pub(super) fn enter_deferred(&mut self, group: Group, seq: u64, due: u64) {
        if self.hold(group) {
            self.deferred.insert((due, seq));
        } else {
            self.park(group, seq);
        }
    }

    fn hold(&mut self, group: Group) -> bool {
        let free = !self.waiting.contains_key(&group);
        if free {
            self.waiting.insert(group, VecDeque::new());
        }
        free
    }

    /// Lets a place wait in its group, which is held.
    pub(super) fn park(&mut self, group: Group, seq: u64) {
        self.waiting.entry(group).or_default().push_back(seq);
        self.parked += 1;
    }

    /// Whether the group is held: whoever comes now has to wait.
    pub(super) fn is_held(&self, group: Group) -> bool {
        self.waiting.contains_key(&group)
    }

    /// The event that held the group is settled: the next one holds it.
    pub(super) fn settled(&mut self, group: Group) {
        let Some(lane) = self.waiting.get_mut(&group) else {
            return;
        };
        match lane.pop_front() {
            Some(seq) => {
                self.parked -= 1;
                self.free.insert(seq);
            }
            None => {
                self.waiting.remove(&group);
            }
        }
    }

    /// The event that holds its group comes again in its place.
    pub(super) fn defer(&mut self, seq: u64, due: u64) {
        self.deferred.insert((due, seq));
    }

    /// The first place that can be claimed, by the time that it is.
    pub(super) fn next(&mut self, now: u64) -> Option<u64> {
        while let Some((due, seq)) = self.deferred.first().copied()
            && due <= now
        {
            self.deferred.pop_first();
            self.free.insert(seq);
        }
        self.free.pop_first()
    }

    /// A place that [`Lanes::next`] gave could not be read.
    pub(super) fn put_back(&mut self, seq: u64) {
        self.free.insert(seq);
    }

    /// When the first place that is held back is due.
    pub(super) fn due(&self) -> Option<u64> {
        self.deferred.first().map(|(due, _)| *due)
    }

    /// The places that wait or can be claimed, and those that are held back.
    pub(super) fn depth(&self) -> (u64, u64) {
        (self.parked + self.free.len() as u64, self.deferred.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1000;

    fn groups() -> [Group; 2] {
        [Group::of(b"a"), Group::of(b"b")]
    }

    #[test]
    fn a_group_has_one_on_its_way_and_the_others_follow_in_order() {
        let (mut lanes, [a, b]) = (Lanes::default(), groups());
        assert!(lanes.enter(Some(a), 1));
        assert!(!lanes.enter(Some(a), 2) && !lanes.enter(Some(a), 3));
        assert!(lanes.enter(Some(b), 4) && lanes.enter(None, 5));
        assert_eq!((lanes.next(NOW), lanes.depth()), (None, (2, 0)));
        lanes.settled(a);
        assert_eq!((lanes.next(NOW), lanes.next(NOW)), (Some(2), None));
        lanes.settled(a);
        assert_eq!(lanes.next(NOW), Some(3));
        lanes.settled(a);
        assert!(!lanes.is_held(a) && lanes.is_held(b));
    }

    #[test]
    fn what_is_deferred_holds_its_group_until_it_was_handled() {
        let (mut lanes, [a, _]) = (Lanes::default(), groups());
        assert!(lanes.enter(Some(a), 1) && !lanes.enter(Some(a), 2));
        lanes.defer(1, NOW + 5);
        assert_eq!((lanes.next(NOW), lanes.due()), (None, Some(NOW + 5)));
        assert_eq!((lanes.next(NOW + 5), lanes.next(NOW + 5)), (Some(1), None));
        lanes.settled(a);
        assert_eq!(lanes.next(NOW), Some(2));
    }
}
