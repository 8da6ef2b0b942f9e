//! What happens when an attempt fails: another after a while, or none.

use std::time::Duration;

use super::{DeadLetter, Dispatcher, Ended, FailureKind, Ran, delay_of};
use crate::effects::{Draft, Ending};
use crate::manifest::OnExhausted;
use crate::records::{NoticeKind, StepRecord, StepState};
use crate::sandbox::Failure;
use crate::store::{CommitError, Deferral, Delivery, Enqueue, StoreError};

/// The longest delay that a guest may ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What comes after a failed attempt.
struct Verdict {
    /// The delay of the next attempt; none when there is none.
    again: Option<Duration>,
    /// Why the attempt failed, and where another was due, why there is none.
    reason: String,
}

impl Dispatcher {
    /// A failure of the guest: again after a while, or the end.
    pub(super) async fn failed(&self, delivery: &Delivery, failure: Failure, ran: Ran) {
        let asked = self.until_the_store_answers(|| self.queued_at(delivery));
        let Some(queued) = asked.await else { return };
        let verdict = self.verdict(delivery, &failure, queued);
        let (state, kind, outcome) = match (verdict.again, self.spec.retry.on_exhausted) {
            (Some(_), _) => (StepState::Retry, NoticeKind::Retry, "retry"),
            (None, OnExhausted::Dead) => (StepState::Dead, NoticeKind::Dead, "dead"),
            (None, OnExhausted::Pause) => (StepState::Paused, NoticeKind::Paused, "paused"),
        };
        let (event, name, attempt) = (&delivery.event, &self.spec.name, delivery.attempt);
        let mut draft = Draft::new(&self.services);
        let step = StepRecord {
            queued,
            reason: Some(verdict.reason.clone()),
            ..self.step(delivery, state, &ran)
        };
        draft.unit.state.push(step.into_write(&event.run));
        let alone = std::slice::from_ref(delivery);
        draft.unit.state.extend(self.logged(alone, &ran));
        match verdict.again {
            Some(delay) => self.try_again(&mut draft, delivery, delay),
            None => {
                draft.unit.settle.push(delivery.receipt.clone());
                draft.ended(name, &event.id, Ending::Dead);
                let letter = self.letter(delivery, &failure, &verdict.reason, &ran);
                draft.unit.state.push(letter.write());
            }
        }
        if let Err(refused) = draft.commit().await {
            return self.refused(delivery, &refused).await;
        }
        self.count(event, &ran, Some(&failure));
        let reason = verdict.reason;
        let ended = Ended {
            outcome,
            effects: 0,
            failure: Some((FailureKind::from(&failure), &reason)),
        };
        self.trace(delivery, &ran, &ended);
        tracing::info!(
            function = name,
            event = event.id,
            run = event.run,
            attempt,
            outcome,
            reason,
            "invocation failed"
        );
        self.tell(event, kind, attempt, |notice| {
            notice.reason = Some(reason);
            notice.duration_ms = Some(ran.wall.as_secs_f64() * 1000.0);
        });
    }

    /// What remains to be done about a delivery whose failure was not committed.
    async fn refused(&self, delivery: &Delivery, refused: &CommitError) {
        let (function, event) = (&self.spec.name, &delivery.event.id);
        match refused {
            CommitError::Lost { .. } => tracing::debug!(function, event, "another delivery has the event"),
            CommitError::Conflict { .. } => self.settle_only(delivery).await,
            error @ (CommitError::Store(_) | CommitError::TooLarge { .. }) => {
                tracing::warn!(function, event, %error, "a failure is not committed");
                self.run_again(std::slice::from_ref(delivery)).await;
            }
        }
    }

    fn try_again(&self, draft: &mut Draft<'_>, delivery: &Delivery, delay: Duration) {
        let due = self
            .services
            .clock
            .now_ms()
            .saturating_add(delay.as_millis() as u64);
        draft.unended(&self.spec.name, &delivery.event.id);
        let (receipt, attempt) = (delivery.receipt.clone(), delivery.attempt.saturating_add(1));
        if delivery.group.is_some() && self.spec.key.as_ref().is_some_and(|key| key.ordered) {
            draft.unit.defer.push(Deferral {
                receipt,
                not_before: due,
                attempt,
            });
            return;
        }
        draft.unit.settle.push(receipt);
        draft.unit.enqueue.push(Enqueue {
            queue: self.spec.queue(),
            group: delivery.group,
            event: delivery.event.clone(),
            not_before: Some(due),
            attempt,
        });
    }

    fn verdict(&self, delivery: &Delivery, failure: &Failure, queued: u64) -> Verdict {
        let (policy, reason) = (&self.spec.retry, failure.to_string());
        let delay = match failure {
            Failure::Reject(_) => None,
            _ if delivery.attempt >= policy.max_attempts => None,
            Failure::Retry {
                delay: Some(delay), ..
            } => Some((*delay).min(LONGEST_DELAY)),
            _ => Some(delay_of(policy, delivery.attempt, self.services.random())),
        };
        let age = |delay: &Duration| {
            let age = self.services.clock.now_ms().saturating_sub(queued);
            Duration::from_millis(age) + *delay
        };
        match delay {
            Some(delay) if age(&delay) > policy.max_age => Verdict {
                again: None,
                reason: format!(
                    "{reason} (the next attempt would be past `max_age` of {:?})",
                    policy.max_age
                ),
            },
            again => Verdict { again, reason },
        }
    }

    /// When the event was queued: for the first time, or by hand since then.
    async fn queued_at(&self, delivery: &Delivery) -> Result<u64, StoreError> {
        let (run, event) = (&delivery.event.run, &delivery.event.id);
        let records = &self.services.records;
        let step = records.step(run, event, &self.spec.name).await?;
        Ok(step.map_or(delivery.event.time, |step| step.queued))
    }

    fn letter(&self, delivery: &Delivery, failure: &Failure, reason: &str, ran: &Ran) -> DeadLetter {
        DeadLetter {
            function: self.spec.name.clone(),
            reason: reason.into(),
            kind: FailureKind::from(failure),
            attempts: delivery.attempt,
            at: self.services.clock.now_ms(),
            paused: self.spec.retry.on_exhausted == OnExhausted::Pause,
            logs: ran.lines.clone(),
            event: delivery.event.clone(),
        }
    }
}
