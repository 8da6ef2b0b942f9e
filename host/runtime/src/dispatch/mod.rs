//! Dispatch: claim, admit, run, commit, again until committed or dead.
//!
//! Failures are of three kinds. The guest's counts an attempt, backs off and in the end is dead. The event's
//! is dead at once. The host's is tried again without counting.

mod backoff;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use backoff::delay_of;

use crate::effects::{DONE, Draft, done_key};
use crate::event::Event;
use crate::manifest::Function;
use crate::records::{LogBuffer, Notice, NoticeKind, StepRecord, StepState};
use crate::sandbox::{Call, EventFunction, Failure, Outcome, Sandbox};
use crate::services::Services;
use crate::store::{CommitError, Condition, Delivery, Enqueue, StateWrite, StoreError};

/// The table of dead letters.
pub const DEAD: &str = "$dead";
/// How long one claim waits for an event.
const CLAIM_WAIT: Duration = Duration::from_secs(20);
/// Events of one claim at most.
const CLAIM: usize = 64;
/// The longest pause between two tries of the store.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// A dead letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The function that did not handle it.
    pub function: String,
    /// Why.
    pub reason: String,
    /// The attempts.
    pub attempts: u32,
    /// When it died, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The event.
    pub event: Event,
}

/// The dispatcher of one function's queue.
pub struct Dispatcher {
    services: Arc<Services>,
    sandbox: Arc<Sandbox>,
    spec: Arc<Function>,
    program: Arc<EventFunction>,
    /// Cancelled when the function is replaced.
    stop: CancellationToken,
}

impl Dispatcher {
    /// Handles the queue of `spec` until the token it returns is cancelled or the platform drains.
    pub fn start(
        services: &Arc<Services>,
        sandbox: &Arc<Sandbox>,
        spec: Arc<Function>,
        program: Arc<EventFunction>,
    ) -> CancellationToken {
        let stop = services.stopping.child_token();
        let (services, sandbox) = (services.clone(), sandbox.clone());
        let dispatcher = Arc::new(Self {
            services,
            sandbox,
            spec,
            program,
            stop: stop.clone(),
        });
        let running = dispatcher.clone();
        dispatcher.services.spawn(async move { running.run().await });
        stop
    }

    async fn run(self: Arc<Self>) {
        let slots = Arc::new(Semaphore::new(self.spec.limits.concurrency as usize));
        while let Some(Ok(slot)) = self.stop.run_until_cancelled(slots.clone().acquire_owned()).await {
            let room = slots.available_permits().min(CLAIM - 1) + 1;
            let claim = self.services.store.claim(&self.spec.name, room, CLAIM_WAIT);
            match self.stop.run_until_cancelled(claim).await {
                None => break,
                Some(Ok(deliveries)) => self.hand_out(deliveries, slot, &slots).await,
                Some(Err(error)) => self.pause(&error, Duration::from_secs(1)).await,
            }
        }
    }

    /// Runs each delivery in a task of its own, with a slot of its own.
    async fn hand_out(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
        first: OwnedSemaphorePermit,
        slots: &Arc<Semaphore>,
    ) {
        let mut first = Some(first);
        for delivery in deliveries {
            let slot = match first.take() {
                Some(slot) => Some(slot),
                None => slots.clone().acquire_owned().await.ok(),
            };
            let dispatcher = self.clone();
            self.services.spawn(async move {
                dispatcher.handle(delivery).await;
                drop(slot);
            });
        }
    }

    /// Handles one delivery to its end: committed, to be tried again, or dead.
    async fn handle(&self, delivery: Delivery) {
        match self
            .until_the_store_answers(|| self.is_done(&delivery.event))
            .await
        {
            Some(false) => {}
            Some(true) => return self.settle_only(delivery).await,
            None => return,
        }
        let (event, attempt) = (&delivery.event, delivery.attempt);
        self.tell(event, NoticeKind::Started, attempt, |_| {});
        let started = self.services.clock.now_ms();
        let _shown = self
            .services
            .records
            .runs_now(&event.id, &self.spec.name, attempt, started);
        let call = Call::new(self.services.clone(), self.spec.clone(), event.clone(), attempt);
        let Outcome {
            result, logs, wall, ..
        } = self.program.run(&self.sandbox, call).await;
        let ran = Ran { started, wall, logs };
        match result {
            Ok(staged) => self.commit(&delivery, staged, ran).await,
            Err(failure) => self.failed(&delivery, failure, ran).await,
        }
    }

    async fn is_done(&self, event: &Event) -> Result<bool, StoreError> {
        Ok(self
            .services
            .store
            .get(DONE, &done_key(&self.spec.name, &event.id))
            .await?
            .is_some())
    }

    async fn settle_only(&self, delivery: Delivery) {
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt);
        if let Err(error) = draft.commit().await {
            tracing::warn!(function = self.spec.name, event = delivery.event.id, %error, "a redelivery is not settled");
        }
    }

    /// Commits the effects. The store's failures are tried again until the done marker tells how it ended.
    async fn commit(&self, delivery: &Delivery, staged: crate::effects::Staged, ran: Ran) {
        let (event, name) = (&delivery.event, &self.spec.name);
        let count = staged.len();
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt.clone());
        draft.done(name, &event.id);
        draft.staged(staged, &self.spec, event);
        let emitted = draft.entered().map(str::to_owned).collect();
        let step = StepRecord {
            emitted,
            ..self.step(delivery, StepState::Done, &ran)
        };
        draft.unit.state.push(step.into_write(&event.run));
        let (wall, logs) = (ran.wall, ran.logs);
        draft
            .unit
            .state
            .extend(logs.into_write(event, name, delivery.attempt, ran.started));
        match draft.commit().await {
            Ok(()) => {
                self.services.metrics.invocation(name, "done", wall.as_secs_f64());
                self.services.metrics.effects(count);
                self.tell(event, NoticeKind::Done, delivery.attempt, |notice| {
                    notice.duration_ms = Some(wall.as_secs_f64() * 1000.0);
                });
            }
            Err(CommitError::Lost { .. }) => {
                tracing::debug!(
                    function = name,
                    event = event.id,
                    "another commit settled the event"
                );
            }
            Err(CommitError::Conflict { table, key, found }) => {
                let reason = format!("condition failed on `{table}/{key}`: {found}");
                let ran = Ran {
                    started: ran.started,
                    wall,
                    logs: LogBuffer::new(0),
                };
                self.failed(delivery, Failure::Retry { reason, delay: None }, ran)
                    .await;
            }
            Err(CommitError::Store(error)) => {
                self.pause(&error, Duration::from_millis(200)).await;
                self.give_back(delivery).await;
            }
        }
    }

    /// A failure of the guest: again after a while, or dead.
    async fn failed(&self, delivery: &Delivery, failure: Failure, ran: Ran) {
        let reason = failure.to_string();
        let again = match &failure {
            Failure::Reject(_) => None,
            _ if delivery.attempt >= self.spec.retry.max_attempts => None,
            Failure::Retry {
                delay: Some(delay), ..
            } => Some(*delay),
            _ => Some(delay_of(
                &self.spec.retry,
                delivery.attempt,
                self.services.random(),
            )),
        };
        let (event, name, attempt) = (&delivery.event, &self.spec.name, delivery.attempt);
        let state = if again.is_some() {
            StepState::Retry
        } else {
            StepState::Dead
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt.clone());
        let step = StepRecord {
            reason: Some(reason.clone()),
            ..self.step(delivery, state, &ran)
        };
        draft.unit.state.push(step.into_write(&event.run));
        let (wall, logs) = (ran.wall, ran.logs);
        draft
            .unit
            .state
            .extend(logs.into_write(event, name, attempt, ran.started));
        match again {
            Some(delay) => draft.unit.enqueue.push(Enqueue {
                queue: name.clone(),
                event: event.clone(),
                not_before: Some(self.services.clock.now_ms() + delay.as_millis() as u64),
                attempt: attempt + 1,
            }),
            None => draft.unit.state.push(self.dead_letter(event, &reason, attempt)),
        }
        if let Err(error) = draft.commit().await {
            tracing::warn!(function = name, event = event.id, %error, "a failed attempt is not recorded");
            return self.give_back(delivery).await;
        }
        let (kind, outcome) = if again.is_some() {
            (NoticeKind::Retry, "retry")
        } else {
            (NoticeKind::Dead, "dead")
        };
        self.services
            .metrics
            .invocation(name, outcome, wall.as_secs_f64());
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
            notice.duration_ms = Some(wall.as_secs_f64() * 1000.0);
        });
    }

    fn step(&self, delivery: &Delivery, state: StepState, ran: &Ran) -> StepRecord {
        let wall = ran.wall.as_secs_f64() * 1000.0;
        StepRecord {
            state,
            attempt: delivery.attempt,
            started: Some(ran.started),
            finished: Some(ran.started + wall as u64),
            duration_ms: Some(wall),
            ..StepRecord::queued(&delivery.event, &self.spec.name, delivery.event.time)
        }
    }

    fn dead_letter(&self, event: &Event, reason: &str, attempts: u32) -> StateWrite {
        let at = self.services.clock.now_ms();
        let function = self.spec.name.clone();
        let key = format!("{function}/{at:014}/{}", event.id);
        let letter = DeadLetter {
            function,
            reason: reason.into(),
            attempts,
            at,
            event: event.clone(),
        };
        let value = serde_json::to_vec(&letter).map(Bytes::from).unwrap_or_default();
        StateWrite {
            table: DEAD.into(),
            key,
            value: Some(value),
            condition: Condition::None,
        }
    }

    /// Tries a read until the store answers; none when the platform stops first.
    async fn until_the_store_answers<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Option<T> {
        let mut pause = Duration::from_millis(50);
        while !self.stop.is_cancelled() {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) => self.pause(&error, pause).await,
            }
            pause = (pause * 2).min(STORE_PAUSE);
        }
        None
    }

    /// Gives an event back without counting an attempt: the done marker decides when it comes again.
    async fn give_back(&self, delivery: &Delivery) {
        let receipt = std::slice::from_ref(&delivery.receipt);
        self.until_the_store_answers(|| self.services.store.unclaim(receipt))
            .await;
    }

    async fn pause(&self, error: &StoreError, pause: Duration) {
        tracing::warn!(function = self.spec.name, %error, ?pause, "the store does not answer");
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }

    fn tell(&self, event: &Event, kind: NoticeKind, attempt: u32, more: impl FnOnce(&mut Notice)) {
        self.services.records.tell(|| {
            let mut notice = Notice::about(event, kind, self.services.clock.now_ms());
            notice.function = Some(self.spec.name.clone());
            notice.attempt = Some(attempt);
            more(&mut notice);
            notice
        });
    }
}

/// How an attempt went, whatever came of it.
struct Ran {
    started: u64,
    wall: Duration,
    logs: LogBuffer,
}
