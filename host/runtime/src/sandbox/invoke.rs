//! Calling an event function: (function, events) to an outcome, touching nothing else.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wasmtime::Store;
use wasmtime::component::{Accessor, InstancePre, ResourceTableError};

use super::guest::{LimitReached, cut};
use super::instances::{Entry, Instances, Returned};
use super::{Call, Guest, Kind, Sandbox};
use crate::dispatch::Handler;
use crate::effects::Staged;
use crate::event::Event;
use crate::imports::batch_bindings::{BatchFunction, BatchFunctionPre};
use crate::imports::bindings::tidegate::function::types;
use crate::imports::bindings::{Function, FunctionPre};
use crate::records::LogBuffer;

/// How the engine says that a guest has as many handles as it may; it has no type for it.
const NO_HANDLE: &str = "store handle limit exceeded";
/// Bytes of a failure's reason at most.
const REASON: usize = 8 << 10;

/// A component that handles events, one at a time or several together.
pub struct EventFunction {
    instances: Instances<Export>,
}

/// What the component exports.
enum Export {
    Single(FunctionPre<Guest>),
    Batch(BatchFunctionPre<Guest>),
}

/// An instance of it.
enum Instance {
    Single(Function),
    Batch(BatchFunction),
}

/// An event function with the sandbox that it runs in.
pub struct Sandboxed {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// The function.
    pub program: Arc<EventFunction>,
}

#[async_trait]
impl Handler for Sandboxed {
    async fn run(&self, call: Arc<Call>) -> Outcome {
        self.program.run(&self.sandbox, call).await
    }
}

/// Why an invocation failed; the guest's fault in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest asks to be tried again.
    #[error("{reason}")]
    Retry {
        /// In the guest's words.
        reason: String,
        /// When; none leaves it to the backoff.
        delay: Option<Duration>,
    },
    /// The guest refuses the event for good.
    #[error("{0}")]
    Reject(String),
    /// The guest hit a limit.
    #[error("{0}")]
    Limit(String),
    /// The guest trapped.
    #[error("trap: {0}")]
    Trap(String),
}

impl Failure {
    /// Whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Limit(text) if text.contains("wall_time"))
    }
}

/// What came of an invocation.
pub struct Outcome {
    /// What to commit, or why not.
    pub result: Result<Staged, Failure>,
    /// What it logged.
    pub logs: LogBuffer,
    /// How long it took, instantiation included.
    pub wall: Duration,
    /// What it took.
    pub usage: Usage,
}

/// What an invocation took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Whether the instance had served another invocation before.
    #[serde(default)]
    pub warm: bool,
    /// From nothing to an instance that is ready for its first instruction, in milliseconds.
    pub start_ms: f64,
    /// How long it computed, its host calls included and its waits left out, in milliseconds.
    pub cpu_ms: f64,
    /// Peak bytes of its memories together.
    pub peak_memory: u64,
    /// Calls into the host.
    pub host_calls: u64,
}

impl EventFunction {
    /// Checks that the component's `handle` has the type of its world.
    pub fn single(pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
        Ok(Self::of(Export::Single(FunctionPre::new(pre)?)))
    }

    /// Checks that the component's `handle-batch` has the type of its world.
    pub fn batch(pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
        Ok(Self::of(Export::Batch(BatchFunctionPre::new(pre)?)))
    }

    fn of(export: Export) -> Self {
        Self {
            instances: Instances::of(export),
        }
    }

    /// How it is called.
    pub fn kind(&self) -> Kind {
        match self.instances.entry() {
            Export::Single(_) => Kind::Event,
            Export::Batch(_) => Kind::Batch,
        }
    }

    /// Runs the function once.
    pub async fn run(&self, sandbox: &Sandbox, call: Arc<Call>) -> Outcome {
        self.instances.run(sandbox, &call, ()).await
    }
}

impl Entry for Export {
    type Instance = Instance;
    type Asked = ();

    async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        Ok(match self {
            Self::Single(pre) => Instance::Single(pre.instantiate_async(store).await?),
            Self::Batch(pre) => Instance::Batch(pre.instantiate_async(store).await?),
        })
    }

    async fn call(
        instance: &Instance,
        accessor: &Accessor<Guest>,
        call: &Call,
        (): (),
    ) -> wasmtime::Result<Returned> {
        let said = instance.handle(accessor, call).await?.map_err(asked_for);
        let alone = has_ended(accessor).await;
        Ok(Returned { said, alone })
    }
}

impl Instance {
    /// Hands the guest what the call is about.
    async fn handle(
        &self,
        accessor: &Accessor<Guest>,
        call: &Call,
    ) -> wasmtime::Result<Result<(), types::Failure>> {
        match self {
            Self::Single(function) => {
                let event = into_wit(&call.event, call.attempt);
                function.call_handle(accessor, event).await
            }
            Self::Batch(function) => {
                let events = call.inputs().map(|(event, attempt)| into_wit(event, attempt));
                function.call_handle_batch(accessor, events.collect()).await
            }
        }
    }
}

/// Whether no task of the guest goes on after its return.
async fn has_ended(accessor: &Accessor<Guest>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(accessor.poll_no_interesting_tasks(context).is_ready())).await
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The reason in an error of the engine: a limit where one was reached, else the trap.
pub(super) fn failure_of(error: &wasmtime::Error, guest: &Guest) -> Failure {
    if let Some(limit) = error.downcast_ref::<LimitReached>() {
        return Failure::Limit(limit.to_string());
    }
    let full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    if full || error.root_cause().to_string().contains(NO_HANDLE) {
        return Failure::Limit(LimitReached::new("handles", guest.call.spec.limits.handles).to_string());
    }
    if guest.memory_refused() {
        return Failure::Limit(format!(
            "limit `memory` of {} bytes reached",
            guest.call.spec.limits.memory
        ));
    }
    // A library that panics on a broken file tells nothing of the file.
    let cause = error.root_cause();
    Failure::Trap(match guest.call.reading() {
        Some(place) => format!("the component trapped while reading `{place}`: {cause:#}"),
        None => format!("{cause:#}"),
    })
}

fn asked_for(failure: types::Failure) -> Failure {
    match failure {
        types::Failure::Retry(retry) => Failure::Retry {
            reason: short(retry.reason),
            delay: retry.delay_ms.map(Duration::from_millis),
        },
        types::Failure::Reject(reason) => Failure::Reject(short(reason)),
    }
}

fn short(mut reason: String) -> String {
    cut(&mut reason, REASON);
    reason
}

fn into_wit(event: &Event, attempt: u32) -> types::Event {
    types::Event {
        id: event.id.clone(),
        source: event.source.clone(),
        kind: event.kind.clone(),
        subject: event.subject.clone(),
        time: event.time,
        content_type: event.content_type.clone(),
        data: event.data.to_vec(),
        traceparent: event.traceparent.clone(),
        attempt,
    }
}
