//! What people do with dead letters: find them, send them through again, or drop them.

use std::sync::Arc;

use serde::Serialize;

use super::{DEAD, DeadLetter};
use crate::effects::{DONE, Draft, Ending};
use crate::records::{Notice, StepRecord, StepState};
use crate::services::Services;
use crate::store::{CommitError, Condition, Enqueue, Order, StateWrite, StoreError};

/// Letters of one page of the table.
const PAGE: usize = 200;

/// Which letters; a letter has to fit in everything that is given.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    /// Of this function.
    pub function: Option<String>,
    /// Whose reason contains this.
    pub reason: Option<String>,
    /// Of this run.
    pub run: Option<String>,
    /// That died at this time or later, in milliseconds since the Unix epoch.
    pub since: Option<u64>,
    /// That died before this time.
    pub until: Option<u64>,
    /// Only paused steps, or only letters that are none.
    pub paused: Option<bool>,
}

impl LetterFilter {
    fn fits(&self, letter: &DeadLetter) -> bool {
        let same =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        same(&self.function, &letter.function)
            && same(&self.run, &letter.event.run)
            && self
                .reason
                .as_ref()
                .is_none_or(|part| letter.reason.contains(part.as_str()))
            && self.since.is_none_or(|since| letter.at >= since)
            && self.until.is_none_or(|until| letter.at < until)
            && self.paused.is_none_or(|paused| letter.paused == paused)
    }
}

/// Why nothing was done about a letter.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// There is no such letter (any more).
    #[error("there is no dead letter `{0}`: it was redriven or dropped, or never was")]
    Missing(String),
    /// Its function is not there to handle it.
    #[error("function `{0}` is not deployed: nothing would handle the event")]
    NoFunction(String),
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for LetterError {
    fn from(error: StoreError) -> Self {
        Self::Commit(error.into())
    }
}

/// What became of several letters.
#[derive(Debug, Default, Serialize)]
pub struct Moved {
    /// The ids of those that were redriven, or dropped.
    pub moved: Vec<String>,
    /// Why others were not.
    pub refused: Vec<String>,
}

impl Moved {
    /// Notes one; an error of the store ends it all.
    fn note(&mut self, id: &str, answer: Result<(), LetterError>) -> Result<(), CommitError> {
        match answer {
            Ok(()) => self.moved.push(id.to_owned()),
            Err(LetterError::Commit(error)) => return Err(error),
            Err(refused) => self.refused.push(refused.to_string()),
        }
        Ok(())
    }
}

/// The dead letters of a platform.
pub struct DeadLetters(Arc<Services>);

impl DeadLetters {
    /// The dead letters in the platform's store.
    pub fn new(services: Arc<Services>) -> Self {
        Self(services)
    }

    /// Up to `limit` letters, the latest first.
    pub async fn list(&self, filter: &LetterFilter, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let prefix = filter
            .function
            .as_ref()
            .map_or(String::new(), |name| format!("{name}/"));
        let (mut letters, mut after) = (Vec::new(), None);
        while letters.len() < limit {
            let query = self
                .0
                .store
                .query(DEAD, &prefix, after.as_deref(), PAGE, Order::Ascending);
            let page = query.await?;
            let decoded = page
                .entries
                .iter()
                .filter_map(|(_, row)| serde_json::from_slice::<DeadLetter>(&row.value).ok());
            letters.extend(decoded.filter(|letter| filter.fits(letter)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        letters.truncate(limit);
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.at));
        Ok(letters)
    }

    /// One letter.
    pub async fn get(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.read(id).await?.map(|(letter, _version)| letter))
    }

    /// Sends letters through again, so many a second; all at once where no rate is given.
    pub async fn redrive_all(&self, ids: &[String], rate: Option<f64>) -> Result<Moved, CommitError> {
        let (start, mut moved) = (self.0.clock.now_ms(), Moved::default());
        for (nth, id) in ids.iter().enumerate() {
            let wait = rate.map(|rate| (nth as f64 * 1000.0 / rate) as u64);
            let due = wait.map(|wait| start.saturating_add(wait));
            moved.note(id, self.redrive(id, due).await)?;
        }
        Ok(moved)
    }

    /// Drops letters for good.
    pub async fn drop_all(&self, ids: &[String]) -> Result<Moved, CommitError> {
        let mut moved = Moved::default();
        for id in ids {
            moved.note(id, self.drop(id).await)?;
        }
        Ok(moved)
    }

    /// Sends an event through its function again, with all attempts before it; the letter is gone.
    ///
    /// One unit takes the letter and its marker and queues the event: twice is not possible, whoever else tries.
    pub async fn redrive(&self, id: &str, not_before: Option<u64>) -> Result<(), LetterError> {
        let (letter, version) = self.found(id).await?;
        let mut draft = Draft::new(&self.0);
        let Some(target) = draft.router().target(&letter.function, &letter.event) else {
            return Err(LetterError::NoFunction(letter.function));
        };
        let now = self.0.clock.now_ms();
        let marker = self.0.store.get(DONE, id).await?;
        let ended = match marker {
            None => Condition::Absent,
            Some(marker) if Ending::read(&marker.value) == Some(Ending::Dead) => {
                Condition::Version(marker.version)
            }
            Some(_) => return Err(LetterError::Missing(id.to_owned())),
        };
        draft.unit.state.push(gone(DEAD, id, Condition::Version(version)));
        draft.unit.state.push(gone(DONE, id, ended));
        let queued = not_before.unwrap_or(now);
        let step = StepRecord {
            version: Some(target.version),
            ..StepRecord::queued(&letter.event, &letter.function, queued)
        };
        draft.unit.state.push(step.into_write(&letter.event.run));
        draft.unit.enqueue.push(Enqueue {
            group: draft.router().group(&target, &letter.event),
            queue: target.queue(),
            event: letter.event.clone(),
            not_before,
            attempt: 1,
        });
        commit(draft, id).await?;
        self.0.records.tell(|| Notice::entered(&letter.event, now));
        Ok(())
    }

    /// Drops a letter: its event stays unhandled for good, and its step says so. A join that it was a part of waits for
    /// it no longer.
    pub async fn drop(&self, id: &str) -> Result<(), LetterError> {
        let (letter, version) = self.found(id).await?;
        let (run, event) = (&letter.event.run, &letter.event.id);
        let step = self.0.records.step(run, event, &letter.function).await?;
        let step = step.unwrap_or_else(|| StepRecord::queued(&letter.event, &letter.function, letter.at));
        let step = StepRecord {
            state: StepState::Dropped,
            reason: Some(letter.reason.clone()),
            ..step
        };
        let mut draft = Draft::new(&self.0);
        draft.unit.state.push(gone(DEAD, id, Condition::Version(version)));
        draft.unit.state.push(step.into_write(run));
        draft.part_ended(&letter.event);
        commit(draft, id).await
    }

    async fn found(&self, id: &str) -> Result<(DeadLetter, u64), LetterError> {
        let found = self.read(id).await?;
        found.ok_or_else(|| LetterError::Missing(id.to_owned()))
    }

    async fn read(&self, id: &str) -> Result<Option<(DeadLetter, u64)>, StoreError> {
        let Some(row) = self.0.store.get(DEAD, id).await? else {
            return Ok(None);
        };
        let letter = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
        Ok(Some((letter, row.version)))
    }
}

/// A unit that finds the letter changed was too late.
async fn commit(draft: Draft<'_>, id: &str) -> Result<(), LetterError> {
    match draft.commit().await {
        Err(CommitError::Conflict { .. }) => Err(LetterError::Missing(id.to_owned())),
        committed => Ok(committed?),
    }
}

fn gone(table: &str, key: &str, condition: Condition) -> StateWrite {
    StateWrite {
        table: table.into(),
        key: key.into(),
        value: None,
        condition,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::ManualClock;
    use crate::dispatch::FailureKind;
    use crate::effects::done_key;
    use crate::event::Event;
    use crate::inference::NoInference;
    use crate::manifest::Manifest;
    use crate::store::Depth;
    use crate::store::memory::Memory;
    use crate::trigger::Router;

    const NOW: u64 = 1_700_000_000_000;

    fn letters() -> (Arc<Services>, DeadLetters) {
        let clock = Arc::new(ManualClock::new(NOW));
        let store = Arc::new(Memory::with_clock(clock.clone()));
        let services = Services::new(store, Arc::new(NoInference), clock);
        let manifest = "[app]\nname = \"a\"\n[[function]]\nname = \"f\"\ncomponent = \"f.wasm\"\n";
        let manifest = Manifest::parse(manifest, "t").unwrap();
        services.set_router(Router::new(
            &manifest.functions.into_iter().map(Arc::new).collect::<Vec<_>>(),
        ));
        (services.clone(), DeadLetters::new(services))
    }

    fn letter(function: &str, event: &str, at: u64) -> DeadLetter {
        let event = Event {
            id: event.into(),
            source: "/events".into(),
            kind: "T".into(),
            subject: None,
            time: NOW,
            content_type: None,
            data: Bytes::new(),
            traceparent: String::new(),
            run: "r".into(),
            parent: None,
            part_of: None,
        };
        DeadLetter {
            function: function.into(),
            reason: format!("no {}", event.id),
            kind: FailureKind::Reject,
            attempts: 2,
            at,
            paused: false,
            logs: Vec::new(),
            event: Arc::new(event),
        }
    }

    async fn die(services: &Services, letter: &DeadLetter) {
        let mut draft = Draft::new(services);
        draft.ended(&letter.function, &letter.event.id, Ending::Dead);
        draft.unit.state.push(letter.write());
        draft.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_letter_is_redriven_once_and_then_it_is_gone() {
        let (services, letters) = letters();
        die(&services, &letter("f", "e", NOW)).await;
        letters.redrive("f/e", None).await.unwrap();
        assert!(matches!(
            letters.redrive("f/e", None).await,
            Err(LetterError::Missing(_))
        ));
        assert!(services.store.get(DONE, "f/e").await.unwrap().is_none());
        let step = services.records.step("r", "e", "f").await.unwrap().unwrap();
        assert_eq!((step.state, step.attempt), (StepState::Queued, 1));
        let depth = services.store.depth("f@0").await.unwrap();
        assert_eq!(depth, Depth { ready: 1, delayed: 0 });
    }

    #[tokio::test]
    async fn an_event_that_was_handled_after_all_is_not_redriven() {
        let (services, letters) = letters();
        let letter = letter("f", "e", NOW);
        die(&services, &letter).await;
        let mut draft = Draft::new(&services);
        draft.unit.state.push(StateWrite {
            value: Some(Ending::Done.write(NOW)),
            ..gone(DONE, &done_key("f", "e"), Condition::None)
        });
        draft.commit().await.unwrap();
        assert!(matches!(
            letters.redrive("f/e", None).await,
            Err(LetterError::Missing(_))
        ));
        assert_eq!(services.store.depth("f@0").await.unwrap(), Depth::default());
    }

    #[tokio::test]
    async fn a_rate_spreads_letters_over_time() {
        let (services, letters) = letters();
        let mut ids = Vec::new();
        for event in ["a", "b", "c"] {
            let letter = letter("f", event, NOW);
            die(&services, &letter).await;
            ids.push(letter.id());
        }
        let moved = letters.redrive_all(&ids, Some(2.0)).await.unwrap();
        assert_eq!((moved.moved.len(), moved.refused.len()), (3, 0));
        let depth = services.store.depth("f@0").await.unwrap();
        assert_eq!(depth, Depth { ready: 1, delayed: 2 });
    }

    #[tokio::test]
    async fn a_letter_of_a_function_that_is_gone_stays() {
        let (services, letters) = letters();
        die(&services, &letter("gone", "e", NOW)).await;
        let refused = letters.redrive("gone/e", None).await.unwrap_err().to_string();
        assert_eq!(
            refused,
            "function `gone` is not deployed: nothing would handle the event"
        );
        assert!(letters.get("gone/e").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_dropped_letter_leaves_its_mark_in_the_run() {
        let (services, letters) = letters();
        die(&services, &letter("f", "e", NOW)).await;
        letters.drop("f/e").await.unwrap();
        assert!(letters.get("f/e").await.unwrap().is_none());
        let step = services.records.step("r", "e", "f").await.unwrap().unwrap();
        assert_eq!(
            (step.state, step.reason.as_deref()),
            (StepState::Dropped, Some("no e"))
        );
        assert!(services.store.get(DONE, "f/e").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn filters_choose_and_the_latest_comes_first() {
        let (services, letters) = letters();
        for (function, event, at) in [("f", "a", NOW), ("f", "b", NOW + 5), ("g", "c", NOW + 9)] {
            die(&services, &letter(function, event, at)).await;
        }
        let ids = async |filter: LetterFilter| -> Vec<String> {
            let found = letters.list(&filter, 10).await.unwrap();
            found.iter().map(DeadLetter::id).collect()
        };
        let all = LetterFilter::default;
        assert_eq!(ids(all()).await, ["g/c", "f/b", "f/a"]);
        let of_f = LetterFilter {
            function: Some("f".into()),
            ..all()
        };
        assert_eq!(ids(of_f).await, ["f/b", "f/a"]);
        let reason = LetterFilter {
            reason: Some("o b".into()),
            ..all()
        };
        assert_eq!(ids(reason).await, ["f/b"]);
        let between = LetterFilter {
            since: Some(NOW + 5),
            until: Some(NOW + 9),
            ..all()
        };
        assert_eq!(ids(between).await, ["f/b"]);
        let paused = LetterFilter {
            paused: Some(true),
            ..all()
        };
        assert!(ids(paused).await.is_empty());
    }
}
