//! One invocation: what the guest's store holds, and the call that its imports act for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{Accessor, ResourceTable};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Sandbox;
use super::identity::{derived_id, identity_of};
use super::meter::Meter;
use super::outbound::Outbound;
use super::printed::Printed;
use crate::effects::{Bounds, Effects, Staged};
use crate::event::Event;
use crate::imports::Imports;
use crate::manifest::Function;
use crate::records::{Level, LogBuffer, Notice, NoticeKind};
use crate::services::Services;
use crate::store::StoreError;

/// Bytes of a log line at most.
const LINE: usize = 32 << 10;

/// An event as an invocation is handed it.
#[derive(Debug, Clone)]
pub struct Input {
    /// The event.
    pub event: Arc<Event>,
    /// Which attempt to handle it this is.
    pub attempt: u32,
}

/// The invocation that imports act for.
pub struct Call {
    /// The platform.
    pub services: Arc<Services>,
    /// The function.
    pub spec: Arc<Function>,
    /// The event that it handles; the first of a batch.
    pub event: Arc<Event>,
    /// Which attempt it is.
    pub attempt: u32,
    /// The other events of a batch.
    others: Vec<Input>,
    /// What its events and jobs take their ids from.
    identity: String,
    effects: Mutex<Effects>,
    logs: Mutex<LogBuffer>,
    calls: AtomicU64,
    host_failed: AtomicBool,
    /// Set where nothing of it will be committed.
    scratch: Option<Scratch>,
    /// The object that was opened last.
    reading: Mutex<Option<String>>,
}

/// A call that nobody hears of, and that is not committed.
#[derive(Debug, Clone, Copy)]
struct Scratch {
    /// Whether it may reach other servers.
    outbound: bool,
}

impl Call {
    /// A call with nothing staged yet.
    pub fn new(services: Arc<Services>, spec: Arc<Function>, event: Arc<Event>, attempt: u32) -> Arc<Self> {
        Self::of_batch(services, spec, Input { event, attempt }, Vec::new())
    }

    /// A call that handles several events together.
    pub fn of_batch(
        services: Arc<Services>,
        spec: Arc<Function>,
        first: Input,
        others: Vec<Input>,
    ) -> Arc<Self> {
        Arc::new(Self::begin(services, spec, first, others))
    }

    /// A call whose effects will be looked at and dropped. It reaches other servers only where that is allowed: what it
    /// does there cannot be taken back.
    pub fn scratch(
        services: Arc<Services>,
        spec: Arc<Function>,
        event: Arc<Event>,
        outbound: bool,
    ) -> Arc<Self> {
        let first = Input { event, attempt: 1 };
        Arc::new(Self {
            scratch: Some(Scratch { outbound }),
            ..Self::begin(services, spec, first, Vec::new())
        })
    }

    fn begin(services: Arc<Services>, spec: Arc<Function>, first: Input, others: Vec<Input>) -> Self {
        let limits = &spec.limits;
        let bounds = Bounds {
            bytes: limits.effects_bytes,
            count: limits.effects_count,
        };
        let logs = LogBuffer::new(limits.log_bytes);
        Self {
            effects: Mutex::new(Effects::new(bounds)),
            logs: Mutex::new(logs),
            calls: AtomicU64::new(0),
            host_failed: AtomicBool::new(false),
            scratch: None,
            reading: Mutex::default(),
            identity: identity_of(&first, &others),
            services,
            spec,
            event: first.event,
            attempt: first.attempt,
            others,
        }
    }

    /// Every event that it handles, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (&Arc<Event>, u32)> {
        let others = self.others.iter().map(|input| (&input.event, input.attempt));
        std::iter::once((&self.event, self.attempt)).chain(others)
    }

    /// What is staged so far.
    pub fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is staged.
    pub fn take_effects(&self) -> Staged {
        self.effects().take()
    }

    /// Keeps a line, and shows it to followers; what is beyond the bound of a line is cut off.
    pub fn log(&self, level: Level, mut message: String) {
        cut(&mut message, LINE);
        let at = self.services.clock.now_ms();
        tracing::debug!(target: "tidegate::guest", function = self.spec.name, run = self.event.run, ?level, "{message}");
        self.tell(|| Notice {
            function: Some(self.spec.name.clone()),
            version: Some(self.spec.version),
            attempt: Some(self.attempt),
            level: Some(level),
            message: Some(message.clone()),
            ..Notice::about(&self.event, NoticeKind::Log, at)
        });
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(at, level, message);
    }

    /// Tells the followers, unless the call is a scratch.
    pub fn tell(&self, notice: impl FnOnce() -> Notice) {
        if self.scratch.is_none() {
            self.services.records.tell(notice);
        }
    }

    /// Refuses to reach a server from a scratch, unless that is allowed.
    pub fn may_reach(&self, host: &str) -> Result<(), String> {
        match self.scratch {
            Some(Scratch { outbound: false }) => Err(format!(
                "a replay does not reach `{host}`, as that could not be taken back; `--allow-outbound` lets it"
            )),
            _ => Ok(()),
        }
    }

    /// Notes that the guest begins to read an object, for the reason of a trap.
    pub fn reads(&self, bucket: &str, key: &str) {
        let place = format!("{bucket}/{key}");
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    /// The object that the guest began to read last.
    pub fn reading(&self) -> Option<String> {
        self.reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes the lines.
    pub fn take_logs(&self) -> LogBuffer {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *logs, LogBuffer::new(0))
    }

    /// The id of the `ordinal`-th event or job of this invocation: the same on every attempt with these events.
    pub fn derived_id(&self, ordinal: usize) -> String {
        derived_id(&self.spec.name, &self.identity, ordinal)
    }

    /// Remembers that the host let the guest down: if it fails now, the fault is not the guest's.
    pub fn unavailable(&self, error: StoreError) -> StoreError {
        self.host_failed.store(true, Ordering::Relaxed);
        error
    }

    /// Whether the host let the guest down.
    pub fn host_failed(&self) -> bool {
        self.host_failed.load(Ordering::Relaxed)
    }

    /// Calls into the host so far.
    pub fn host_calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn count(&self) -> wasmtime::Result<()> {
        let allowed = self.spec.limits.host_calls;
        if self.calls.fetch_add(1, Ordering::Relaxed) >= allowed {
            return Err(LimitReached::new("host_calls", allowed).into());
        }
        Ok(())
    }
}

/// Cuts a text of a guest to about `bytes`, and says how much is missing.
pub(super) fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = text.floor_char_boundary(bytes);
        let missing = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("... and {missing} more bytes"));
    }
}

/// A limit that ends the invocation.
#[derive(Debug, Clone, thiserror::Error)]
#[error("limit `{name}` of {allowed} reached")]
pub struct LimitReached {
    /// The limit's key in the manifest.
    pub name: &'static str,
    /// Its value.
    pub allowed: String,
}

impl LimitReached {
    pub(super) fn new(name: &'static str, allowed: impl ToString) -> Self {
        Self {
            name,
            allowed: allowed.to_string(),
        }
    }
}

/// What a guest's store holds.
pub struct Guest {
    /// The invocation.
    pub call: Arc<Call>,
    /// The guest's handles.
    pub table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    memory: Memory,
    meter: Arc<Meter>,
    stdout: Printed,
    stderr: Printed,
}

impl Guest {
    /// A store for one invocation, with the function's limits.
    pub fn store(sandbox: &Sandbox, call: Arc<Call>) -> Store<Self> {
        let (stdout, stderr) = (Printed::default(), Printed::default());
        let environment: Vec<_> = call.spec.environment.iter().collect();
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .envs(&environment)
            .build();
        let memory = Memory::new(call.spec.limits.memory);
        let outbound = Outbound::new(call.clone());
        let handles = call.spec.limits.handles as usize;
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        let cpu_time = call.spec.limits.cpu_time;
        let guest = Self {
            call,
            table,
            wasi,
            http: WasiHttpCtx::new(),
            outbound,
            memory,
            meter: Arc::new(Meter::new()),
            stdout,
            stderr,
        };
        let mut store = Store::new(sandbox.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        // What the engine itself holds for a guest: resources of its own, and tasks and streams that it began.
        store.set_max_component_handles(handles);
        if let Some(tasks) = store.concurrent_resource_table() {
            tasks.set_max_capacity(handles);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| {
            if context.data().meter.spent_so_far() > cpu_time {
                return Err(LimitReached::new("cpu_time", format!("{cpu_time:?}")).into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// Acts for another invocation from now on.
    pub(super) fn begin(&mut self, call: Arc<Call>) {
        self.outbound = Outbound::new(call.clone());
        self.call = call;
        self.meter = Arc::new(Meter::new());
        self.memory.peak = self.memory.used;
    }

    /// Counts a host call against the limit.
    pub fn count_call(&self) -> wasmtime::Result<()> {
        self.call.count()
    }

    /// The invocation, for an import that waits; counts the call.
    pub fn call_of<T>(accessor: &Accessor<T, Imports>) -> wasmtime::Result<Arc<Call>> {
        accessor.with(|mut access| {
            let guest = access.get();
            guest.count_call()?;
            Ok(guest.call.clone())
        })
    }

    /// The guest's data, for an import that waits.
    pub fn with<T, R>(
        accessor: &Accessor<T, Imports>,
        act: impl FnOnce(&mut Self) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        accessor.with(|mut access| act(access.get()))
    }

    /// Measures how long the guest computes.
    pub(super) fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// Peak bytes of all memories together.
    pub fn peak_memory(&self) -> u64 {
        self.memory.peak
    }

    /// Whether a memory limit refused to let the guest grow.
    pub fn memory_refused(&self) -> bool {
        self.memory.refused
    }

    /// Turns what the guest printed into log lines.
    pub fn keep_output(&self) {
        for (printed, level) in [(&self.stdout, Level::Info), (&self.stderr, Level::Error)] {
            for line in printed.take_lines() {
                self.call.log(level, line);
            }
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Limits the sum of all memories of one invocation, and its tables.
struct Memory {
    allowed: u64,
    used: u64,
    peak: u64,
    refused: bool,
}

impl Memory {
    fn new(allowed: u64) -> Self {
        Self {
            allowed,
            used: 0,
            peak: 0,
            refused: false,
        }
    }
}

/// Elements of one table at most.
const TABLE: usize = 100_000;

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used + (desired - current) as u64;
        if used > self.allowed {
            self.refused = true;
            return Ok(false);
        }
        self.used = used;
        self.peak = self.peak.max(used);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::inference::NoInference;
    use crate::manifest::Manifest;
    use crate::store::memory::Memory;

    #[test]
    fn a_replay_reaches_no_server_unless_it_is_allowed() {
        let text = "[app]\nname = \"a\"\n[[function]]\nname = \"f\"\ncomponent = \"f.wasm\"\n";
        let spec = Arc::new(Manifest::parse(text, "t").unwrap().functions.remove(0));
        let services = Services::new(
            Arc::new(Memory::default()),
            Arc::new(NoInference),
            Arc::new(SystemClock),
        );
        let event = crate::event::Event {
            id: "e".into(),
            source: "/events".into(),
            kind: "T".into(),
            subject: None,
            time: 0,
            content_type: None,
            data: bytes::Bytes::new(),
            traceparent: String::new(),
            run: "e".into(),
            parent: None,
            part_of: None,
        };
        let event = Arc::new(event);
        let scratch = |outbound| {
            let call = Call::scratch(services.clone(), spec.clone(), event.clone(), outbound);
            call.may_reach("example.com")
        };
        assert!(scratch(false).unwrap_err().contains("`--allow-outbound`"));
        assert_eq!(scratch(true), Ok(()));
        let call = Call::new(services.clone(), spec.clone(), event.clone(), 1);
        assert_eq!(call.may_reach("example.com"), Ok(()));
    }
}
