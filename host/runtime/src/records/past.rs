//! The past: events that entered and what their handlings did, kept for a while so that they can be run again.
//!
//! A row begins with the time, in milliseconds, by which the store's janitor knows what is old.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Records, StepRecord, StepState};
use crate::effects::{Staged, Summary, done_key};
use crate::event::Event;
use crate::store::{Condition, StateWrite, StoreError};

/// The table of events that entered.
pub const EVENTS: &str = "$events";
/// The table of what handlings did, by [`done_key`].
pub const EFFECTS: &str = "$effects";
/// How long both are kept.
pub const KEEP_PAST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Bytes of data of an event that is kept; a larger one is not.
pub const LARGEST_PAST: usize = 64 << 10;

/// Bytes of a row's time.
const TIME: usize = 8;

/// The row that keeps an event; none where it is too large.
pub fn event_write(event: &Event, now: u64) -> Option<StateWrite> {
    (event.data.len() <= LARGEST_PAST).then(|| row(EVENTS, event.id.clone(), event, now))
}

/// The row that keeps what a handling did; none where it did nothing.
pub fn effects_write(function: &str, event: &str, staged: &Staged, now: u64) -> Option<StateWrite> {
    let key = done_key(function, event);
    (!staged.is_empty()).then(|| row(EFFECTS, key, &Summary::of(staged), now))
}

fn row(table: &str, key: String, value: &impl Serialize, now: u64) -> StateWrite {
    let mut bytes = now.to_be_bytes().to_vec();
    // Plain data: it cannot fail to be written.
    let _plain = serde_json::to_writer(&mut bytes, value);
    StateWrite {
        table: table.into(),
        key,
        value: Some(Bytes::from(bytes)),
        condition: Condition::None,
    }
}

impl Records {
    /// An event that entered, while it is kept.
    pub async fn past_event(&self, event: &str) -> Result<Option<Event>, StoreError> {
        self.past(EVENTS, event).await
    }

    /// What a step did; none where that is not known: it has not ended, or it ended together with others.
    pub async fn past_effects(&self, step: &StepRecord) -> Result<Option<Summary>, StoreError> {
        let open = matches!(
            step.state,
            StepState::Queued | StepState::Joining | StepState::Running | StepState::Retry
        );
        if open || step.batch.is_some() {
            return Ok(None);
        }
        let kept = self.past(EFFECTS, &done_key(&step.function, &step.event)).await?;
        // What left no row did nothing.
        Ok(Some(kept.unwrap_or_default()))
    }

    async fn past<T: DeserializeOwned>(&self, table: &str, key: &str) -> Result<Option<T>, StoreError> {
        let row = self.store.get(table, key).await?;
        Ok(row.and_then(|row| serde_json::from_slice(row.value.get(TIME..)?).ok()))
    }
}
