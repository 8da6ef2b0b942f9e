//! What one try of a unit does: the transaction, and what the row of the outbox tells.

use tidegate_runtime::store::{CommitError, Condition, StoreError};

use super::{Action, Meaning, Prepared, Row, When};
use crate::after::{After, LaneOf, Letter};
use crate::items::number;
use crate::keys::{self, values};
use crate::store::Core;

/// Actions of one transaction.
pub(crate) const FULL: usize = 100;
/// Bytes of one transaction; DynamoDB's bound is 4 MB with the names of attributes in it.
pub(crate) const LARGEST: usize = 3 << 20;

/// One try.
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) after: Option<After>,
}

impl Core {
    /// Reads what a unit depends on and plans its transaction.
    pub(super) async fn plan(&self, prepared: &Prepared) -> Result<Plan, CommitError> {
        let present = self.present(&prepared.objects).await?;
        let stamp = self.stamps.next();
        let mut actions = self.receipt_actions(prepared)?;
        let (free, bound): (Vec<_>, Vec<_>) = prepared
            .state
            .iter()
            .partition(|write| write.condition == Condition::None);
        for write in bound {
            actions.extend(self.state_actions(write, stamp)?);
        }
        actions.extend(self.count_actions(prepared, stamp)?);
        actions.extend(self.object_actions(&prepared.objects, &present, stamp)?);
        let state = free.into_iter().map(|write| Row::State {
            table: write.table.clone(),
            key: write.key.clone(),
            value: write.value.clone(),
            ttl: write.ttl,
        });
        let events = prepared.events.iter();
        let events = events.map(|event| Row::of_event(event, self.stamps.next()));
        let rows: Vec<Row> = state.chain(events).collect();
        let mut after = self.after(prepared, &rows, stamp);
        after.rest = self.fill(&mut actions, rows, stamp)?;
        if after.is_empty() {
            return Ok(Plan { actions, after: None });
        }
        actions.push(self.outbox_action(&mut after).await?);
        let after = Some(after);
        Ok(Plan { actions, after })
    }

    /// Takes as many rows into a transaction as fit: all, else those that functions look at, else none. Hands back
    /// the rest.
    fn fill(&self, actions: &mut Vec<Action>, rows: Vec<Row>, stamp: u64) -> Result<Vec<Row>, CommitError> {
        // One is for the row of the outbox.
        let allowed = FULL - 1;
        if actions.len() > allowed {
            return Err(CommitError::TooLarge {
                found: actions.len(),
                allowed,
            });
        }
        let (platforms, others): (Vec<Row>, Vec<Row>) = rows.iter().cloned().partition(Row::is_the_platforms);
        for (within, rest) in [(rows.clone(), Vec::new()), (others, platforms)] {
            let mut more = Vec::new();
            for row in &within {
                more.extend(self.actions_of(row, stamp)?);
            }
            let size: usize = actions.iter().chain(&more).map(|action| action.size).sum();
            if actions.len() + more.len() <= allowed && size <= LARGEST {
                actions.extend(more);
                return Ok(rest);
            }
        }
        Ok(rows)
    }

    /// What follows the transaction, but for the rows that it does not take in.
    fn after(&self, prepared: &Prepared, rows: &[Row], stamp: u64) -> After {
        let now = self.now();
        let mut after = After::new(self.new_id(), stamp);
        after.zeros = prepared.counts.clone();
        let settled = prepared.settle.iter().map(|held| &held.place);
        for place in settled {
            after.lanes.extend(LaneOf::of(place));
        }
        for row in rows {
            let Row::Event { place, due, .. } = row else {
                continue;
            };
            match LaneOf::of(place).filter(|_| due.is_none_or(|due| due <= now)) {
                Some(lane) => after
                    .lanes
                    .extend(Some(lane).filter(|lane| !after.lanes.contains(lane))),
                None => after.letters.push(Letter {
                    place: place.clone(),
                    due: *due,
                }),
            }
        }
        after
    }

    /// Deliveries that are settled or deferred are held, and groups let go.
    fn receipt_actions(&self, prepared: &Prepared) -> Result<Vec<Action>, StoreError> {
        let mut actions = Vec::new();
        for held in &prepared.settle {
            let when = When::holds("claim = :c", values([(":c", number(held.claim))]));
            actions.push(self.delete(&held.place.key(), when, Meaning::Receipt(held.place.clone()))?);
            if let Some(lane) = LaneOf::of(&held.place) {
                actions.push(self.delete(&lane.key(), When::default(), Meaning::Free)?);
            }
            if let Some(blob) = &held.blob {
                actions.push(self.garbage_action(blob, self.now())?);
            }
        }
        for (held, deferral) in &prepared.defer {
            let expression = "SET due = :d, attempt = :a REMOVE claim, held";
            let values = values([
                (":c", number(held.claim)),
                (":d", number(deferral.not_before)),
                (":a", number(deferral.attempt)),
            ]);
            let meaning = Meaning::Receipt(held.place.clone());
            let when = When::holds("claim = :c", values);
            actions.push(self.update(&held.place.key(), expression, when, meaning)?);
        }
        Ok(actions)
    }

    /// Counts are added to; what they come to is looked at afterwards.
    fn count_actions(&self, prepared: &Prepared, stamp: u64) -> Result<Vec<Action>, StoreError> {
        let mut actions = Vec::new();
        for count in &prepared.counts {
            let key = keys::state(&count.table, &count.key)?;
            let values = values([(":n", number(count.add)), (":v", number(stamp))]);
            let when = When::holds(
                "attribute_not_exists(b) AND attribute_not_exists(blob_at)",
                values,
            );
            let meaning = Meaning::Count {
                table: count.table.clone(),
                key: count.key.clone(),
            };
            actions.push(self.update(&key, "ADD n :n SET v = :v", when, meaning)?);
        }
        if let Some(key) = &prepared.ends {
            let when = When::holds("n = :zero", values([(":zero", number(0))]));
            actions.push(self.delete(key, when, Meaning::Ended)?);
        }
        Ok(actions)
    }

    /// Lets bytes in the bucket be removed after a time.
    pub(super) fn garbage_action(&self, blob: &str, due: u64) -> Result<Action, StoreError> {
        let row = keys::garbage(due, blob).item();
        self.put(row, When::default(), Meaning::Free, 0)
    }
}
