//! Joins: a count of the handlings that are still to come, changed in the units that end them.

use bytes::Bytes;

use super::{Draft, OpenedJoin};
use crate::event::{Event, Join};
use crate::manifest::queue_of;
use crate::records::{StepRecord, StepState};
use crate::store::{Condition, Count, Enqueue, StateWrite};

/// The table of the events that open joins wait to emit, by the join's id.
pub const JOINS: &str = "$joins";
/// The table of the handlings that open joins wait for, by the join's id.
pub const COUNTS: &str = "$counts";
/// The platform's function that handles joins whose parts are all handled.
pub const JOIN: &str = "$join";
/// The type of the event that a join's last part brings about.
const COMPLETED: &str = "tidegate.join";

/// What a unit changes of a join.
pub(super) struct Counted {
    add: i64,
    completed: Event,
}

impl Draft<'_> {
    /// Opens a join that was staged: it waits in its run until its parts, which enter with this unit, are handled.
    pub(super) fn open(&mut self, opened: &OpenedJoin, handled: &Event) {
        let completed = completed(&opened.join, handled);
        let step = StepRecord {
            state: StepState::Joining,
            ..StepRecord::queued(&completed, JOIN, self.now)
        };
        self.unit.state.push(step.into_write(&handled.run));
        self.unit.state.push(StateWrite {
            table: JOINS.into(),
            key: opened.join.id.clone(),
            value: serde_json::to_vec(&opened.then).ok().map(Bytes::from),
            condition: Condition::Absent,
        });
        self.count(&opened.join, handled, 0);
    }

    /// Counts a part whose handling ended for good: done, or given up by hand.
    pub fn part_ended(&mut self, event: &Event) {
        self.part(event, -1);
    }

    /// Counts handlings of an event that are still to come, or their end; nothing where it is part of no join.
    pub(super) fn part(&mut self, event: &Event, handlings: i64) {
        if let Some(join) = &event.part_of {
            self.count(join, event, handlings);
        }
    }

    /// Adds to the count of a join in the run of an event; one that this unit brings to zero is completed.
    fn count(&mut self, join: &Join, within: &Event, add: i64) {
        let counted = self.joins.entry(join.id.clone()).or_insert_with(|| Counted {
            add: 0,
            completed: completed(join, within),
        });
        counted.add += add;
    }

    /// The counts of the unit.
    pub(super) fn counts(&mut self) -> impl Iterator<Item = Count> {
        std::mem::take(&mut self.joins)
            .into_iter()
            .map(|(key, counted)| Count {
                table: COUNTS.into(),
                key,
                add: counted.add,
                at_zero: Enqueue {
                    queue: queue_of(JOIN, 0),
                    group: None,
                    event: counted.completed.into(),
                    not_before: None,
                    attempt: 1,
                },
            })
    }
}

/// The event that a join's parts are all handled: of one id and in one run, whichever of them is the last.
fn completed(join: &Join, within: &Event) -> Event {
    Event {
        id: join.id.clone(),
        source: "/joins".into(),
        kind: COMPLETED.into(),
        subject: None,
        content_type: None,
        data: Bytes::new(),
        parent: Some(join.opener.clone()),
        part_of: None,
        ..within.clone()
    }
}
