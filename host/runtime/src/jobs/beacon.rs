//! What tells others how much work there is: the queue `$jobs/KIND` has an event for each job of the kind that waits or
//! runs. Nobody handles them: they are there to be counted, for example by what scales a pool of workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::waiting::Ticket;
use super::{Jobs, WAITING, rows};
use crate::effects::Draft;
use crate::event::Event;
use crate::store::{CommitError, Condition, Enqueue, StateWrite, StoreError};

/// The table, and the key of the row that is written with every correction; it has the kinds that there ever were.
const TURN: (&str, &str) = ("$jobs.told", "turn");
/// Events that are added or taken away at one time.
const MOST: u64 = 100;

impl Jobs {
    /// Has every queue tell as many jobs as there are. Of hosts that look at one time, one corrects.
    pub(super) async fn tell_how_many(&self) -> Result<(), StoreError> {
        let store = &self.services.store;
        let turn = store.get(TURN.0, TURN.1).await?;
        let kinds = turn
            .as_ref()
            .and_then(|row| serde_json::from_slice(&row.value).ok());
        let kinds: Vec<String> = kinds.unwrap_or_default();
        let turn = turn.map_or(Condition::Absent, |row| Condition::Version(row.version));
        let mut jobs: BTreeMap<String, u64> = kinds.into_iter().map(|kind| (kind, 0)).collect();
        for (_, row) in rows(store.as_ref(), WAITING).await? {
            *jobs.entry(Ticket::read(&row.value)?.kind).or_default() += 1;
        }
        for (_, lease) in self.leases().await? {
            *jobs.entry(lease.kind).or_default() += 1;
        }
        let mut draft = Draft::new(&self.services);
        for (kind, jobs) in &jobs {
            self.correct(&mut draft, kind, *jobs).await?;
        }
        if draft.unit.settle.is_empty() && draft.unit.enqueue.is_empty() {
            return Ok(());
        }
        let receipts = draft.unit.settle.clone();
        let kinds: Vec<String> = jobs.into_keys().collect();
        draft.unit.state.push(StateWrite {
            table: TURN.0.into(),
            key: TURN.1.into(),
            value: Some(serde_json::to_vec(&kinds).map_err(StoreError::new)?.into()),
            condition: turn,
        });
        match draft.commit().await {
            Ok(()) => Ok(()),
            Err(CommitError::Store(error)) => Err(error),
            // Another host was first.
            Err(_) => store.unclaim(&receipts).await,
        }
    }

    /// Adds or takes away what the queue of a kind has too few or too many.
    async fn correct(&self, draft: &mut Draft<'_>, kind: &str, jobs: u64) -> Result<(), StoreError> {
        let (store, queue) = (&self.services.store, format!("$jobs/{kind}"));
        let depth = store.depth(&queue).await?;
        let there = depth.ready + depth.delayed;
        let missing = jobs.saturating_sub(there).min(MOST);
        draft
            .unit
            .enqueue
            .extend((0..missing).map(|_| self.mark(&queue, kind)));
        let spare = there.saturating_sub(jobs).min(MOST);
        if spare > 0 {
            let claimed = store.claim(&queue, spare as usize, Duration::ZERO).await?;
            draft
                .unit
                .settle
                .extend(claimed.into_iter().map(|delivery| delivery.receipt));
        }
        Ok(())
    }

    fn mark(&self, queue: &str, kind: &str) -> Enqueue {
        let id = self.services.new_id();
        let event = Event {
            run: id.clone(),
            id,
            source: "/jobs".into(),
            kind: kind.into(),
            subject: None,
            time: self.services.clock.now_ms(),
            content_type: None,
            data: Bytes::new(),
            traceparent: self.services.new_traceparent(),
            parent: None,
            part_of: None,
        };
        Enqueue {
            queue: queue.into(),
            group: None,
            event: Arc::new(event),
            not_before: None,
            attempt: 1,
        }
    }
}
