//! Dispatch: claim, admit, run, commit, again until committed or dead.
//!
//! Failures are of three kinds. The guest's counts an attempt, backs off and in the end is dead. The event's
//! is dead at once. The host's is tried again without counting.

mod backoff;
mod dead;
mod failure;
mod letters;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use backoff::delay_of;
pub use dead::{DEAD, DeadLetter, FailureKind};
pub use letters::{DeadLetters, LetterError, LetterFilter, Moved};

use crate::effects::{DONE, Draft, Ending, done_key};
use crate::event::Event;
use crate::manifest::Function;
use crate::records::{LogLine, Notice, NoticeKind, StepRecord, StepState, log_write};
use crate::sandbox::{Call, Failure, Outcome, Usage};
use crate::services::Services;
use crate::store::{CommitError, Delivery, StateWrite, StoreError};

/// How long one claim waits for an event.
const CLAIM_WAIT: Duration = Duration::from_secs(20);
/// Events of one claim at most.
const CLAIM: usize = 64;
/// The longest pause between two tries of the store.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// The pause before an event is run again after the host failed its guest, or its commit.
const HOST_PAUSE: Duration = Duration::from_millis(200);

/// What handles the events of a function: a component in the sandbox, or a stand-in for it.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one event, touching nothing but what the outcome tells.
    async fn run(&self, call: Arc<Call>) -> Outcome;
}

/// The dispatcher of one function's queue.
pub struct Dispatcher {
    services: Arc<Services>,
    spec: Arc<Function>,
    handler: Arc<dyn Handler>,
    /// Cancelled when the function is replaced.
    stop: CancellationToken,
}

impl Dispatcher {
    /// Handles the queue of `spec` until the token it returns is cancelled or the platform drains.
    pub fn start(
        services: &Arc<Services>,
        spec: Arc<Function>,
        handler: Arc<dyn Handler>,
    ) -> CancellationToken {
        let stop = services.stopping.child_token();
        let dispatcher = Arc::new(Self {
            services: services.clone(),
            spec,
            handler,
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
            .until_the_store_answers(|| self.has_ended(&delivery.event))
            .await
        {
            Some(false) => {}
            Some(true) => return self.settle_only(&delivery).await,
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
            result,
            logs,
            wall,
            usage,
        } = self.handler.run(call.clone()).await;
        let ran = Ran {
            started,
            wall,
            usage,
            lines: logs.into_lines(started),
        };
        match result {
            Ok(staged) => self.commit(&delivery, staged, ran).await,
            Err(failure) if call.host_failed() => {
                tracing::warn!(function = self.spec.name, event = event.id, reason = %failure, "the host failed a guest");
                self.run_again(&delivery).await;
            }
            Err(failure) => self.failed(&delivery, failure, ran).await,
        }
    }

    async fn has_ended(&self, event: &Event) -> Result<bool, StoreError> {
        let key = done_key(&self.spec.name, &event.id);
        Ok(self.services.store.get(DONE, &key).await?.is_some())
    }

    /// Takes a delivery out of its queue whose event has ended.
    async fn settle_only(&self, delivery: &Delivery) {
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt.clone());
        if let Err(CommitError::Store(error)) = draft.commit().await {
            tracing::warn!(function = self.spec.name, event = delivery.event.id, %error, "a redelivery is not settled");
            self.run_again(delivery).await;
        }
    }

    /// Commits the effects. The store's failures are tried again until the done marker tells how it ended.
    async fn commit(&self, delivery: &Delivery, staged: crate::effects::Staged, ran: Ran) {
        let (event, name) = (&delivery.event, &self.spec.name);
        let count = staged.len();
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt.clone());
        draft.ended(name, &event.id, Ending::Done);
        draft.staged(staged, &self.spec, event);
        let emitted = draft.entered().map(str::to_owned).collect();
        let step = StepRecord {
            emitted,
            ..self.step(delivery, StepState::Done, &ran)
        };
        draft.unit.state.push(step.into_write(&event.run));
        draft.unit.state.extend(self.logged(delivery, &ran));
        match draft.commit().await {
            Ok(()) => {
                self.services
                    .metrics
                    .invocation(name, "done", ran.wall.as_secs_f64());
                self.services.metrics.effects(count);
                self.tell(event, NoticeKind::Done, delivery.attempt, |notice| {
                    notice.duration_ms = Some(ran.wall.as_secs_f64() * 1000.0);
                    notice.usage = Some(ran.usage);
                });
            }
            Err(CommitError::Conflict { table, key, found }) if table != DONE => {
                let reason = format!("condition failed on `{table}/{key}`: {found}");
                self.failed(delivery, Failure::Retry { reason, delay: None }, ran)
                    .await;
            }
            Err(refused) => self.refused(delivery, &refused).await,
        }
    }

    /// What remains to be done about a delivery whose unit was refused for no fault of the guest.
    async fn refused(&self, delivery: &Delivery, refused: &CommitError) {
        let (function, event) = (&self.spec.name, &delivery.event.id);
        match refused {
            CommitError::Lost { .. } => tracing::debug!(function, event, "another delivery has the event"),
            CommitError::Conflict { .. } => self.settle_only(delivery).await,
            CommitError::Store(error) => {
                tracing::warn!(function, event, %error, "an attempt is not committed");
                self.run_again(delivery).await;
            }
        }
    }

    fn logged(&self, delivery: &Delivery, ran: &Ran) -> Option<StateWrite> {
        log_write(
            &ran.lines,
            &delivery.event,
            &self.spec.name,
            delivery.attempt,
            ran.started,
        )
    }

    fn step(&self, delivery: &Delivery, state: StepState, ran: &Ran) -> StepRecord {
        let wall = ran.wall.as_secs_f64() * 1000.0;
        StepRecord {
            state,
            attempt: delivery.attempt,
            started: Some(ran.started),
            finished: Some(ran.started + wall as u64),
            duration_ms: Some(wall),
            usage: Some(ran.usage),
            ..StepRecord::queued(&delivery.event, &self.spec.name, delivery.event.time)
        }
    }

    /// Tries a read until the store answers; none when the platform stops first.
    async fn until_the_store_answers<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Option<T> {
        let mut pause = Duration::from_millis(50);
        // A function that is replaced ends what it began: only the platform's end ends this.
        while !self.services.stopping.is_cancelled() {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) => self.pause(&error, pause).await,
            }
            pause = (pause * 2).min(STORE_PAUSE);
        }
        None
    }

    /// Gives an event back without counting an attempt: the done marker decides when it comes again.
    async fn run_again(&self, delivery: &Delivery) {
        self.rest(HOST_PAUSE).await;
        let receipt = std::slice::from_ref(&delivery.receipt);
        self.until_the_store_answers(|| self.services.store.unclaim(receipt))
            .await;
    }

    async fn rest(&self, pause: Duration) {
        let pause = self.services.clock.sleep(pause);
        self.services.stopping.run_until_cancelled(pause).await;
    }

    async fn pause(&self, error: &StoreError, pause: Duration) {
        tracing::warn!(function = self.spec.name, %error, ?pause, "the store does not answer");
        self.rest(pause).await;
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
    usage: Usage,
    lines: Vec<LogLine>,
}
