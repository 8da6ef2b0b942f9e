//! Rows that depend on nothing: they are written with the transaction, or after it where it is full.

use serde::{Deserialize, Serialize};
use tidegate_runtime::effects::DONE;
use tidegate_runtime::records::{EFFECTS, EVENTS, LOGS, REQUESTS, RUNS};
use tidegate_runtime::store::{Condition, SYSTEM_PREFIX, StoreError};

use super::prepared::Write;
use super::{Action, Meaning, NewEvent, When};
use crate::items::{Item, number, text};
use crate::keys::{self, Place};
use crate::notices::GONE;
use crate::store::Core;
use crate::values::Stored;

/// What the table forgets by itself, counted from its last write: done markers, runs and their steps, log lines, what is kept of requests and of past events, and that
/// objects of others are gone: SQS keeps no older notice.
const FORGOTTEN: [&str; 7] = [DONE, RUNS, LOGS, REQUESTS, EVENTS, EFFECTS, GONE];
/// How long it keeps them, in seconds.
const KEEP: u64 = 14 * 24 * 3600;

/// A row to write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Row {
    /// A value of a key; none deletes it.
    State {
        table: String,
        key: String,
        value: Option<Stored>,
        ttl: Option<u64>,
    },
    /// An event.
    Event {
        place: Place,
        event: Stored,
        due: Option<u64>,
        attempt: u32,
    },
}

impl Row {
    pub(super) fn of_event(new: &NewEvent, seq: u64) -> Self {
        Self::Event {
            place: Place {
                queue: new.queue.clone(),
                group: new.group,
                seq,
            },
            event: new.event.clone(),
            due: new.due,
            attempt: new.attempt,
        }
    }

    /// Whether only the platform looks at it: it may be seen a moment later than the rest of its unit.
    pub(super) fn is_the_platforms(&self) -> bool {
        match self {
            Self::State { table, .. } => table.starts_with(SYSTEM_PREFIX),
            Self::Event { .. } => true,
        }
    }

    /// The queue that it is for.
    pub(crate) fn queue(&self) -> Option<&str> {
        match self {
            Self::State { .. } => None,
            Self::Event { place, .. } => Some(&place.queue),
        }
    }
}

impl Core {
    /// When the table forgets what is written to it now, in seconds.
    pub(super) fn forgotten_at(&self, table: &str) -> Option<u64> {
        FORGOTTEN.contains(&table).then(|| self.now() / 1000 + KEEP)
    }

    /// What writes a row.
    pub(crate) fn actions_of(&self, row: &Row, stamp: u64) -> Result<Vec<Action>, StoreError> {
        match row {
            Row::State {
                table,
                key,
                value,
                ttl,
            } => {
                let write = Write {
                    table: table.clone(),
                    key: key.clone(),
                    value: value.clone(),
                    ttl: *ttl,
                    condition: Condition::None,
                };
                self.state_actions(&write, stamp)
            }
            Row::Event {
                place,
                event,
                due,
                attempt,
            } => {
                let mut row = place.key().item();
                row.extend([event.attribute(), ("attempt".into(), number(attempt))]);
                row.extend(due.map(|due| ("due".into(), number(due))));
                let mut actions = vec![self.put(row, When::default(), Meaning::Free, event.size())?];
                if let Stored::Blob(name) = event {
                    actions.push(self.delete(&keys::staged(name), When::default(), Meaning::Free)?);
                }
                Ok(actions)
            }
        }
    }

    /// What writes a key, under its condition, and never over a later version.
    pub(super) fn state_actions(&self, write: &Write, stamp: u64) -> Result<Vec<Action>, StoreError> {
        let key = keys::state(&write.table, &write.key)?;
        let meaning = Meaning::State {
            table: write.table.clone(),
            key: write.key.clone(),
            condition: write.condition,
        };
        let when = match write.condition {
            Condition::Absent => When::absent(),
            Condition::Version(version) => When::holds("v = :v", keys::values([(":v", number(version))])),
            Condition::None => When::holds(
                "attribute_not_exists(v) OR v < :v",
                keys::values([(":v", number(stamp))]),
            ),
        };
        let Some(value) = &write.value else {
            return Ok(vec![self.delete(&key, when, meaning)?]);
        };
        let mut row = key.item();
        row.extend([value.attribute(), ("v".into(), number(stamp))]);
        row.extend(write.ttl.map(|ttl| ("ttl".into(), number(ttl))));
        let mut actions = vec![self.put(row, when, meaning, value.size())?];
        if let Stored::Blob(name) = value {
            actions.push(self.delete(&keys::staged(name), When::default(), Meaning::Free)?);
            let mut large = keys::large(name).item();
            large.extend(Item::from([
                ("of".to_owned(), text(&key.pk)),
                ("at".to_owned(), text(&key.sk)),
            ]));
            actions.push(self.put(large, When::default(), Meaning::Free, 0)?);
        }
        Ok(actions)
    }
}
