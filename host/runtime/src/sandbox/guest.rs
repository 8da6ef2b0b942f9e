//! One invocation: what the guest's store holds, and the call that its imports act for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{Accessor, ResourceTable};
use wasmtime::{ResourceLimiter, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Sandbox;
use super::http::Outbound;
use crate::effects::{Bounds, Effects, Staged};
use crate::event::Event;
use crate::imports::Imports;
use crate::manifest::Function;
use crate::records::{Level, LogBuffer, Notice, NoticeKind};
use crate::services::Services;

/// Bytes that a guest may write to its standard output, and as many to its standard error.
const STDIO: usize = 64 << 10;

/// The invocation that imports act for.
pub struct Call {
    /// The platform.
    pub services: Arc<Services>,
    /// The function.
    pub spec: Arc<Function>,
    /// The event that it handles.
    pub event: Arc<Event>,
    /// Which attempt it is.
    pub attempt: u32,
    effects: Mutex<Effects>,
    logs: Mutex<LogBuffer>,
    calls: AtomicU64,
    /// The object that was opened last.
    reading: Mutex<Option<String>>,
}

impl Call {
    /// A call with nothing staged yet.
    pub fn new(services: Arc<Services>, spec: Arc<Function>, event: Arc<Event>, attempt: u32) -> Arc<Self> {
        let limits = &spec.limits;
        let bounds = Bounds {
            bytes: limits.effects_bytes,
            count: limits.effects_count,
        };
        let logs = LogBuffer::new(limits.log_bytes);
        Arc::new(Self {
            effects: Mutex::new(Effects::new(bounds)),
            logs: Mutex::new(logs),
            calls: AtomicU64::new(0),
            reading: Mutex::default(),
            services,
            spec,
            event,
            attempt,
        })
    }

    /// What is staged so far.
    pub fn effects(&self) -> MutexGuard<'_, Effects> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is staged.
    pub fn take_effects(&self) -> Staged {
        self.effects().take()
    }

    /// Keeps a line, and shows it to followers.
    pub fn log(&self, level: Level, message: String) {
        let at = self.services.clock.now_ms();
        tracing::debug!(target: "tidegate::guest", function = self.spec.name, run = self.event.run, ?level, "{message}");
        self.services.records.tell(|| Notice {
            function: Some(self.spec.name.clone()),
            attempt: Some(self.attempt),
            message: Some(message.clone()),
            ..Notice::about(&self.event, NoticeKind::Log, at)
        });
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(at, level, message);
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

    /// The id of the `ordinal`-th event or job of this invocation: the same on every attempt.
    pub fn derived_id(&self, ordinal: usize) -> String {
        let mut hash = blake3::Hasher::new();
        for part in [
            self.spec.name.as_bytes(),
            self.event.id.as_bytes(),
            &ordinal.to_le_bytes(),
        ] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().to_hex()[..32].to_owned()
    }

    fn count(&self) -> wasmtime::Result<()> {
        let allowed = self.spec.limits.host_calls;
        if self.calls.fetch_add(1, Ordering::Relaxed) >= allowed {
            return Err(LimitReached {
                name: "host_calls",
                allowed,
            }
            .into());
        }
        Ok(())
    }
}

/// A limit that ends the invocation.
#[derive(Debug, Clone, thiserror::Error)]
#[error("limit `{name}` of {allowed} reached")]
pub struct LimitReached {
    /// The limit's key in the manifest.
    pub name: &'static str,
    /// Its value.
    pub allowed: u64,
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
    stdout: MemoryOutputPipe,
    stderr: MemoryOutputPipe,
}

impl Guest {
    /// A store for one invocation, with the function's limits.
    pub fn store(sandbox: &Sandbox, call: Arc<Call>) -> Store<Self> {
        let (stdout, stderr) = (MemoryOutputPipe::new(STDIO), MemoryOutputPipe::new(STDIO));
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .build();
        let memory = Memory::new(call.spec.limits.memory);
        let outbound = Outbound::new(call.clone());
        let guest = Self {
            call,
            table: ResourceTable::new(),
            wasi,
            http: WasiHttpCtx::new(),
            outbound,
            memory,
            stdout,
            stderr,
        };
        let mut store = Store::new(sandbox.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
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
        for (pipe, level) in [(&self.stdout, Level::Info), (&self.stderr, Level::Error)] {
            let text = pipe.contents();
            for line in String::from_utf8_lossy(&text).lines() {
                self.call.log(level, line.to_owned());
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
