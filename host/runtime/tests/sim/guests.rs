//! Stand-ins for guests: they do what the pipeline says, through the same effects as components.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tidegate_runtime::dispatch::Handler;
use tidegate_runtime::effects::{Emission, OpenedJoin, Submission, done_key};
use tidegate_runtime::event::{Event, Join};
use tidegate_runtime::jobs::Terms;
use tidegate_runtime::records::Level;
use tidegate_runtime::sandbox::{Call, Failure, Outcome, Usage};
use tidegate_runtime::store::{Condition, ObjectMeta, Publication, StateWrite, StoreError};
use tidegate_runtime::trigger::OBJECT_CREATED;

use crate::ledger::Ledger;
use crate::pipeline::{BUCKET, Behaviour, JOB, Mishap, Pipeline};

/// The table of counters: one of each function, and one that they share.
pub const COUNTERS: &str = "counters";
/// The counter that functions share.
pub const HOT: &str = "hot";
/// Why a guest refuses what it is made to refuse.
pub const REFUSED: &str = "refused";
/// Why an event of an object that is not there as it was published is refused.
pub const NO_OBJECT: &str = "the object is not there as it was published";
/// The table that only failed attempts write to.
pub const LEFTOVERS: &str = "leftovers";

/// All guests of a pipeline.
pub struct Guests {
    pipeline: Arc<Pipeline>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Guests {
    /// Guests that tell a ledger what they do.
    pub fn new(pipeline: Arc<Pipeline>, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self { pipeline, ledger }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }
}

#[async_trait]
impl Handler for Guests {
    async fn run(&self, call: Arc<Call>) -> Outcome {
        let clock = call.services.clock.clone();
        let started = clock.now_ms();
        if !self.pipeline.versions().is_live(&call.spec) {
            self.ledger().count("handled by a version that drains");
        }
        for (event, attempt) in call.inputs() {
            self.ledger().began(started, &call.spec, event, attempt);
        }
        let _turn = Turn::take(&self.ledger, &call);
        let result = self.handle(&call).await;
        if let Err(failure) = &result
            && !call.host_failed()
        {
            self.failed(&call, failure);
        }
        Outcome {
            result: result.map(|()| call.take_effects()),
            logs: call.take_logs(),
            wall: Duration::from_millis(clock.now_ms() - started),
            usage: Usage::default(),
        }
    }
}

impl Guests {
    /// Handles every event of the call, until one fails.
    async fn handle(&self, call: &Call) -> Result<(), Failure> {
        for (event, attempt) in call.inputs() {
            let behaviour = self.pipeline.behaviour(&call.spec.name, &event.id);
            handle(call, event, attempt, &behaviour).await?;
        }
        Ok(())
    }

    /// Only an event that fails alone has failed.
    fn failed(&self, call: &Call, failure: &Failure) {
        let events = call.inputs().count();
        if events > 1 {
            return self.ledger().count("batches halved");
        }
        let delay = match failure {
            Failure::Retry { delay, .. } => delay.map(|delay| delay.as_millis() as u64),
            _ => None,
        };
        let key = done_key(&call.spec.name, &call.event.id);
        let now = call.services.clock.now_ms();
        self.ledger().failed(now, key, call.attempt, delay);
    }
}

/// A guest that runs, until it ends or its process does.
struct Turn {
    ledger: Arc<Mutex<Ledger>>,
    call: Arc<Call>,
}

impl Turn {
    fn take(ledger: &Arc<Mutex<Ledger>>, call: &Arc<Call>) -> Self {
        for (event, _) in call.inputs() {
            ledger.lock().unwrap().takes_its_turn(&call.spec, event);
        }
        Self {
            ledger: ledger.clone(),
            call: call.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock().unwrap();
        let queue = self.call.spec.queue();
        for (event, _) in self.call.inputs() {
            ledger.keys.ends(&queue, event);
        }
    }
}

async fn handle(call: &Call, event: &Event, attempt: u32, behaviour: &Behaviour) -> Result<(), Failure> {
    let clock = &call.services.clock;
    clock.sleep(Duration::from_millis(behaviour.takes)).await;
    if let Some(mishap) = behaviour.mishaps.get(attempt as usize - 1) {
        write(call, LEFTOVERS, &event.id, 1, Condition::None)?;
        emit(call, 0, None)?;
        return Err(go_wrong(call, *mishap).await);
    }
    if event.kind == OBJECT_CREATED {
        read(call, event).await?;
    }
    if behaviour.rejects {
        write(call, LEFTOVERS, &event.id, 1, Condition::None)?;
        call.log(Level::Warn, "not this one".into());
        return Err(Failure::Reject(REFUSED.into()));
    }
    add_one(call, &call.spec.name).await?;
    if behaviour.hot {
        add_one(call, HOT).await?;
    }
    for (kind, delay) in &behaviour.emits {
        emit(call, *kind, *delay)?;
    }
    if let Some(function) = behaviour.publishes {
        publish(call, event, function).await?;
    }
    if let Some(kind) = behaviour.job {
        submit(call, kind)?;
    }
    if let Some((parts, then)) = &behaviour.join {
        join(call, parts, *then)?;
    }
    Ok(())
}

async fn go_wrong(call: &Call, mishap: Mishap) -> Failure {
    match mishap {
        Mishap::Retry(delay) => Failure::Retry {
            reason: "not yet".into(),
            delay: delay.map(Duration::from_millis),
        },
        Mishap::Trap => Failure::Trap("unreachable".into()),
        Mishap::TooMuch => loop {
            if let Err(failure) = emit(call, 0, None) {
                return failure;
            }
        },
        Mishap::TooSlow => {
            call.services.clock.sleep(call.spec.limits.wall_time).await;
            Failure::Limit("limit `wall_time` reached".into())
        }
    }
}

fn write(call: &Call, table: &str, key: &str, value: u64, condition: Condition) -> Result<(), Failure> {
    let write = StateWrite {
        table: table.into(),
        key: key.into(),
        value: Some(Bytes::from(value.to_string())),
        condition,
    };
    call.effects().write(write).map_err(|error| again(&error))
}

/// What a component that passes every error on does with one.
fn again(error: &dyn std::error::Error) -> Failure {
    Failure::Retry {
        reason: error.to_string(),
        delay: None,
    }
}

fn unavailable(call: &Call, error: StoreError) -> Failure {
    again(&call.unavailable(error))
}

async fn add_one(call: &Call, key: &str) -> Result<(), Failure> {
    let staged = call.effects().state(COUNTERS, key).cloned();
    if let Some(own) = staged.and_then(|write| write.value) {
        return write(call, COUNTERS, key, number(&own) + 1, Condition::None);
    }
    let row = call.services.store.get(COUNTERS, key).await;
    let row = row.map_err(|error| unavailable(call, error))?;
    let (found, condition) = match row {
        None => (0, Condition::Absent),
        Some(row) => (number(&row.value), Condition::Version(row.version)),
    };
    write(call, COUNTERS, key, found + 1, condition)
}

/// Reads the object that the event tells of.
async fn read(call: &Call, event: &Event) -> Result<(), Failure> {
    let key = event.subject.as_deref().unwrap_or_default();
    let opened = call.services.store.open(BUCKET, key).await;
    let opened = opened.map_err(|error| unavailable(call, error))?;
    let object = opened.ok_or_else(|| Failure::Reject(NO_OBJECT.into()))?;
    let bytes = object.read_at(0, 1000).await;
    let bytes = bytes.map_err(|error| unavailable(call, error))?;
    let parent = event.parent.as_deref().unwrap_or_default();
    if bytes != parent.as_bytes() {
        return Err(Failure::Reject(NO_OBJECT.into()));
    }
    Ok(())
}

/// A number as it is kept.
pub fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn emit(call: &Call, kind: usize, delay: Option<u64>) -> Result<(), Failure> {
    let mut effects = call.effects();
    let id = call.derived_id(effects.ordinal());
    effects
        .emit(emission(call, id, kind, delay, None))
        .map_err(|error| again(&error))
}

fn emission(call: &Call, id: String, kind: usize, delay: Option<u64>, part_of: Option<Join>) -> Emission {
    Emission {
        id,
        kind: format!("T{kind}"),
        subject: None,
        content_type: None,
        data: Bytes::from(
            json!({ "held_back": delay, "user": user(call.event.time + kind as u64) }).to_string(),
        ),
        delay,
        part_of,
    }
}

/// Opens a join, with the ids that the import would give.
fn join(call: &Call, parts: &[usize], then: usize) -> Result<(), Failure> {
    let mut effects = call.effects();
    let first = effects.ordinal();
    let join = Join {
        id: call.derived_id(first),
        opener: call.event.id.clone(),
    };
    let then = emission(call, call.derived_id(first + 1), then, None, None);
    let parts = (first + 2..)
        .zip(parts)
        .map(|(ordinal, kind)| emission(call, call.derived_id(ordinal), *kind, None, Some(join.clone())));
    effects
        .join(
            parts.collect(),
            OpenedJoin {
                join: join.clone(),
                then,
            },
        )
        .map_err(|error| again(&error))
}

/// Somebody whom an event is about, one of few.
pub fn user(number: u64) -> u64 {
    number % 3
}

/// The key of the object that a function publishes for another when it handles an event.
pub fn object_key(to: usize, function: &str, event: &str) -> String {
    format!("out/{to}/{function}/{event}")
}

/// Publishes an object that holds what its event will say caused it: the first event of a batch.
async fn publish(call: &Call, event: &Event, to: usize) -> Result<(), Failure> {
    let failed = |error| unavailable(call, error);
    let mut stage = call.services.store.stage().await.map_err(failed)?;
    stage
        .write(Bytes::from(call.event.id.clone()))
        .await
        .map_err(failed)?;
    let staged = stage.finish().await.map_err(failed)?;
    let key = object_key(to, &call.spec.name, &event.id);
    let meta = ObjectMeta {
        key: key.clone(),
        size: staged.size,
        etag: staged.etag.clone(),
        content_type: None,
        modified: call.services.clock.now_ms(),
        sequencer: 0,
        user: BTreeMap::new(),
    };
    let publication = Publication {
        bucket: BUCKET.into(),
        key,
        staged: Some(staged),
        content_type: None,
        user: BTreeMap::new(),
        condition: Condition::None,
    };
    call.effects()
        .publish(publication, Some(meta))
        .map_err(|error| again(&error))
}

fn submit(call: &Call, kind: usize) -> Result<(), Failure> {
    let mut effects = call.effects();
    let submission = Submission {
        id: call.derived_id(effects.ordinal()),
        kind: JOB.into(),
        config: json!({}),
        reads: Vec::new(),
        writes: Vec::new(),
        emits: format!("T{kind}"),
        terms: Terms::default(),
        part_of: call.event.part_of.clone(),
    };
    effects.submit(submission, 2).map_err(|error| again(&error))
}
