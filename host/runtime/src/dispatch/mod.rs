//! Dispatch: claim, admit, run, commit, again until committed or dead.
//!
//! Failures are of three kinds. The guest's counts an attempt, backs off and in the end is dead. The event's
//! is dead at once. The host's is tried again without counting.

mod admission;
mod backoff;
mod batch;
mod dead;
mod drain;
mod failure;
mod handed;
mod join;
mod letters;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use admission::{Full, Gate, NoPlace, NoRoom, NotBefore, Place, Places, Rates, has_room};
pub use backoff::delay_of;
pub use dead::{DEAD, DeadLetter, FailureKind};
pub use drain::drained;
pub use join::completes_joins;
pub use letters::{DeadLetters, LetterError, LetterFilter, Moved};

use self::batch::{Group, distinct};
use self::spans::Ended;
use crate::effects::{DONE, Draft, EffectCounts, Ending, Staged, done_key};
use crate::event::Event;
use crate::manifest::Function;
use crate::metrics::Invocation;
use crate::records::{
    Batched, LogLine, Notice, NoticeKind, StepRecord, StepState, effects_write, log_writes,
};
use crate::sandbox::{Call, Failure, Input, Outcome, Usage};
use crate::services::Services;
use crate::store::{CommitError, Delivery, Receipt, StateWrite, StoreError};

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
    /// Handles one event or a batch, touching nothing but what the outcome tells.
    async fn run(&self, call: Arc<Call>) -> Outcome;
}

/// The dispatcher of one function's queue.
pub struct Dispatcher {
    services: Arc<Services>,
    spec: Arc<Function>,
    handler: Arc<dyn Handler>,
    /// Cancelled when the version has drained.
    stop: CancellationToken,
}

impl Dispatcher {
    /// A dispatcher that handles what it is handed, until it is started.
    pub fn new(services: &Arc<Services>, spec: Arc<Function>, handler: Arc<dyn Handler>) -> Arc<Self> {
        Arc::new(Self {
            services: services.clone(),
            spec,
            handler,
            stop: services.stopping.child_token(),
        })
    }

    /// Handles its queue until the token it returns is cancelled or the platform drains.
    pub fn start(self: &Arc<Self>) -> CancellationToken {
        let running = self.clone();
        self.services.spawn(async move { running.run().await });
        self.stop.clone()
    }

    async fn run(self: Arc<Self>) {
        if let Some(batch) = self.spec.batch {
            return self.run_batches(batch).await;
        }
        let queue = self.spec.queue();
        let slots = Arc::new(Semaphore::new(self.spec.limits.concurrency as usize));
        while let Some(Ok(slot)) = self.stop.run_until_cancelled(slots.clone().acquire_owned()).await {
            let Some(allowed) = self.stop.run_until_cancelled(self.rate_allows()).await else {
                break;
            };
            let room = (slots.available_permits() + 1).min(CLAIM).min(allowed);
            let claim = self.services.store.claim(&queue, room, CLAIM_WAIT);
            match self.stop.run_until_cancelled(claim).await {
                None => break,
                Some(Ok(deliveries)) => {
                    self.spend(deliveries.len());
                    self.hand_out(deliveries, slot, &slots).await;
                }
                Some(Err(error)) => self.pause(&error, Duration::from_secs(1)).await,
            }
        }
    }

    /// How many invocations may begin by the function's rate; waits for the first.
    async fn rate_allows(&self) -> usize {
        loop {
            let now = self.services.clock.now_ms();
            match self.services.rates.allowed(&self.spec, now) {
                Ok(allowed) => return usize::try_from(allowed).unwrap_or(usize::MAX),
                Err(NotBefore(time)) => self.services.clock.sleep_until(time).await,
            }
        }
    }

    /// Counts invocations by the function's rate.
    fn spend(&self, count: usize) {
        let now = self.services.clock.now_ms();
        self.services.rates.spend(&self.spec, count, now);
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
                dispatcher.handle_in_turn(vec![delivery]).await;
                drop(slot);
            });
        }
    }

    /// Handles deliveries when it is their turn; a platform that stops leaves them to the next start.
    async fn handle_in_turn(&self, deliveries: Group) {
        let turn = self.services.gate.enter(&self.spec);
        if let Some(_place) = self.services.stopping.run_until_cancelled(turn).await {
            self.handle(deliveries).await;
        }
    }

    /// Handles deliveries to their ends, together as far as that goes: committed, to be tried again, or dead.
    async fn handle(&self, deliveries: Group) {
        let mut waiting = vec![deliveries];
        // What a drain cuts off is delivered again at the next start.
        while let Some(next) = waiting.pop() {
            let (group, twins) = distinct(next);
            if group.is_empty() {
                continue;
            }
            waiting.push(twins);
            let marks = self.marks(&group);
            let remaining = self.attempt(group).instrument(marks).await;
            waiting.extend(remaining.into_iter().rev());
            if self.services.stopping.is_cancelled() {
                return;
            }
        }
    }

    /// Runs a group once; returns what of it has to be attempted anew.
    async fn attempt(&self, group: Group) -> Vec<Group> {
        let asked = self.until_the_store_answers(|| self.ended(&group)).await;
        let Some(ended) = asked else { return Vec::new() };
        let (ended, group): (Vec<_>, Vec<_>) = group.into_iter().zip(ended).partition(|(_, ended)| *ended);
        for (delivery, _) in ended {
            self.settle_only(&delivery).await;
        }
        let group: Group = group.into_iter().map(|(delivery, _)| delivery).collect();
        let started = self.services.clock.now_ms();
        let Some(call) = self.call(&group) else {
            return Vec::new();
        };
        let mut shown = Vec::with_capacity(group.len());
        for Delivery { event, attempt, .. } in &group {
            self.tell(event, NoticeKind::Started, *attempt, |_| {});
            let records = &self.services.records;
            shown.push(records.runs_now(&event.id, &self.spec.name, *attempt, started));
        }
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
            Ok(staged) => self.commit(group, staged, ran).await,
            Err(failure) if call.host_failed() => {
                let event = &call.event.id;
                tracing::warn!(function = self.spec.name, event, reason = %failure, "the host failed a guest");
                self.run_again(&group).await;
                Vec::new()
            }
            Err(failure) => self.failed_together(group, failure, ran).await,
        }
    }

    /// The call that handles a group; none where there is nothing to handle.
    fn call(&self, group: &[Delivery]) -> Option<Arc<Call>> {
        let mut inputs = group.iter().map(|delivery| Input {
            event: self.seen(delivery),
            attempt: delivery.attempt,
        });
        let first = inputs.next()?;
        let (services, spec) = (self.services.clone(), self.spec.clone());
        Some(Call::of_batch(services, spec, first, inputs.collect()))
    }

    /// Which events of a group have ended.
    async fn ended(&self, group: &[Delivery]) -> Result<Vec<bool>, StoreError> {
        let key = |delivery: &Delivery| done_key(&self.spec.name, &delivery.event.id);
        let keys: Vec<String> = group.iter().map(key).collect();
        let markers = self.services.store.get_many(DONE, &keys).await?;
        Ok(markers.iter().map(Option::is_some).collect())
    }

    /// Takes a delivery out of its queue whose event has ended.
    async fn settle_only(&self, delivery: &Delivery) {
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt.clone());
        if let Err(CommitError::Store(error)) = draft.commit().await {
            tracing::warn!(function = self.spec.name, event = delivery.event.id, %error, "a redelivery is not settled");
            self.run_again(std::slice::from_ref(delivery)).await;
        }
    }

    /// Commits the effects and the end of every event in one unit. The store's failures are tried again until the
    /// done markers tell how it ended. Returns what has to be attempted anew.
    async fn commit(&self, mut group: Group, staged: Staged, ran: Ran) -> Vec<Group> {
        let name = &self.spec.name;
        let effects = staged.counts();
        let Some(first) = group.first() else {
            return Vec::new();
        };
        let mut draft = Draft::new(&self.services);
        // The markers go first: a second end of an event is refused as such, before any condition of the guest.
        for delivery in &group {
            draft.unit.settle.push(delivery.receipt.clone());
            draft.ended(name, &delivery.event.id, Ending::Done);
            draft.part_ended(&delivery.event);
        }
        let done = effects_write(name, &first.event.id, &staged, self.services.clock.now_ms());
        draft.unit.state.extend(done);
        draft.staged(staged, &self.spec, &self.seen(first));
        self.record(&mut draft, &group, effects, &ran);
        match draft.commit().await {
            Ok(()) => {
                self.count(&first.event, &ran, None);
                self.services.metrics.consumed(name, group.len());
                self.services.metrics.effects(effects.total());
                let ended = Ended {
                    outcome: "done",
                    effects: effects.total(),
                    failure: None,
                };
                for delivery in &group {
                    self.trace(delivery, &ran, &ended);
                    self.tell(&delivery.event, NoticeKind::Done, delivery.attempt, |notice| {
                        notice.duration_ms = Some(ran.wall.as_secs_f64() * 1000.0);
                        notice.usage = Some(ran.usage);
                    });
                }
                Vec::new()
            }
            Err(CommitError::Conflict { table, key, found }) if table != DONE => {
                let reason = format!("condition failed on `{table}/{key}`: {found}");
                self.failed_together(group, Failure::Retry { reason, delay: None }, ran)
                    .await
            }
            // A batch is halved until it fits.
            Err(too_large @ CommitError::TooLarge { .. }) => {
                self.failed_together(group, Failure::Reject(too_large.to_string()), ran)
                    .await
            }
            // Whatever ended meanwhile is left out the next time.
            Err(CommitError::Conflict { .. }) => vec![group],
            Err(CommitError::Lost { queue, seq }) => {
                tracing::debug!(function = name, queue, seq, "another delivery has the event");
                group.retain(|delivery| delivery.receipt.queue != queue || delivery.receipt.seq != seq);
                vec![group]
            }
            Err(CommitError::Store(error)) => {
                tracing::warn!(function = name, event = first.event.id, %error, "an attempt is not committed");
                self.run_again(&group).await;
                Vec::new()
            }
        }
    }

    /// Adds the steps of a group that is done, and what it logged.
    fn record(&self, draft: &mut Draft<'_>, group: &[Delivery], effects: EffectCounts, ran: &Ran) {
        let Some(first) = group.first() else { return };
        let (mut effects, mut emitted) = (effects, draft.entered().map(str::to_owned).collect());
        for delivery in group {
            let step = StepRecord {
                batch: Batched::of(&first.event, group.len()),
                // With the first one only: a batch of many may emit many.
                effects: Some(std::mem::take(&mut effects)),
                emitted: std::mem::take(&mut emitted),
                ..self.step(delivery, StepState::Done, ran)
            };
            draft.unit.state.push(step.into_write(&delivery.event.run));
        }
        draft.unit.state.extend(self.logged(group, ran));
    }

    /// Counts an invocation for an event, and maybe others with it.
    fn count(&self, event: &Event, ran: &Ran, failure: Option<&Failure>) {
        self.services.metrics.invoked(&Invocation {
            function: &self.spec.name,
            trigger: event.trigger(),
            wall: ran.wall,
            usage: ran.usage,
            failure,
        });
    }

    /// The rows that keep the lines of an invocation, to be found from the run of each of its events.
    fn logged(&self, group: &[Delivery], ran: &Ran) -> Vec<StateWrite> {
        let events = group.iter().map(|delivery| (&*delivery.event, delivery.attempt));
        log_writes(&ran.lines, events, &self.spec, ran.started)
    }

    fn step(&self, delivery: &Delivery, state: StepState, ran: &Ran) -> StepRecord {
        let wall = ran.wall.as_secs_f64() * 1000.0;
        StepRecord {
            version: Some(self.spec.version),
            state,
            attempt: delivery.attempt,
            started: Some(ran.started),
            finished: Some(ran.started + wall as u64),
            duration_ms: Some(wall),
            usage: Some(ran.usage),
            span_id: self.span_of(delivery),
            ..StepRecord::queued(&delivery.event, &self.spec.name, delivery.event.time)
        }
    }

    /// Tries a read until the store answers; none when the platform stops first.
    async fn until_the_store_answers<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Option<T> {
        let mut pause = Duration::from_millis(50);
        // A version that is stopped ends what it began: only the platform's end ends this.
        while !self.services.stopping.is_cancelled() {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) => self.pause(&error, pause).await,
            }
            pause = (pause * 2).min(STORE_PAUSE);
        }
        None
    }

    /// Gives events back without counting an attempt: the done markers decide when they come again.
    async fn run_again(&self, group: &[Delivery]) {
        self.rest(HOST_PAUSE).await;
        let receipts: Vec<Receipt> = group.iter().map(|delivery| delivery.receipt.clone()).collect();
        self.give_back(&receipts).await;
    }

    async fn give_back(&self, receipts: &[Receipt]) {
        self.until_the_store_answers(|| self.services.store.unclaim(receipts))
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
            notice.version = Some(self.spec.version);
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
