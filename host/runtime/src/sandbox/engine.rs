//! The engine, its pool of instance slots, and the one thread that ticks the epoch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::{Code, ComponentError, Guest};
use crate::imports;

/// How often a running guest yields, so that its deadline and its neighbours are served.
const TICK: Duration = Duration::from_millis(5);

/// The sizes of the pool; each is a bound for the whole host.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Instances at one time.
    pub instances: u32,
    /// Bytes of one linear memory at most, whatever a manifest asks for.
    pub memory: usize,
    /// Bytes of each memory that are zeroed, and so stay resident, between invocations; the rest is unmapped.
    /// A guest's first megabyte is mostly stack that it never touched: to zero it all costs more, 0.1 ms, than
    /// the page faults that it saves.
    pub keep_resident: usize,
    /// Elements of one table.
    pub table_elements: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            instances: 512,
            memory: 4 << 30,
            keep_resident: 64 << 10,
            table_elements: 100_000,
        }
    }
}

/// The engine with everything that a component may be linked to.
pub struct Sandbox {
    engine: Engine,
    linker: Linker<Guest>,
    /// The code of components that functions have now, by digest.
    codes: Mutex<HashMap<String, Weak<Code>>>,
    /// Places for instances that wait for their next invocation.
    waiting: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
}

impl Sandbox {
    /// Makes the engine and starts its ticker thread.
    pub fn new(pool: Pool) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(pool))?;
        let linker = linker(&engine)?;
        let stop = Arc::new(AtomicBool::new(false));
        spawn_ticker(engine.clone(), stop.clone())?;
        // The other half of the pool stays free for fresh instances.
        let waiting = Arc::new(Semaphore::new(pool.instances as usize / 2));
        Ok(Self {
            engine,
            linker,
            codes: Mutex::default(),
            waiting,
            stop,
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What components are linked to.
    pub fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }

    /// The code of a component that a function has already.
    pub fn loaded(&self, digest: &str) -> Option<Arc<Code>> {
        let codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.get(digest)?.upgrade()
    }

    /// The code of a component, compiled and linked where no function has it yet.
    pub(super) fn code(
        &self,
        digest: &str,
        compiled: impl FnOnce(&str) -> Result<Component, ComponentError>,
    ) -> Result<Arc<Code>, ComponentError> {
        if let Some(code) = self.loaded(digest) {
            return Ok(code);
        }
        let code = Arc::new(Code::link(self, &compiled(digest)?, digest)?);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, code| code.strong_count() > 0);
        codes.insert(digest.to_owned(), Arc::downgrade(&code));
        Ok(code)
    }

    /// A place for an instance that waits, if one is free.
    pub(super) fn place_to_wait(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(super) fn config(pool: Pool) -> Config {
    let mut slots = PoolingAllocationConfig::new();
    slots
        .total_component_instances(pool.instances)
        .total_core_instances(pool.instances * 8)
        .total_memories(pool.instances * 2)
        .total_tables(pool.instances * 4)
        .total_stacks(pool.instances * 2)
        .max_memories_per_component(8)
        .max_tables_per_component(32)
        .max_core_instances_per_component(32)
        .max_memory_size(pool.memory)
        .table_elements(pool.table_elements)
        .linear_memory_keep_resident(pool.keep_resident)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::No);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(slots));
    config
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    imports::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn spawn_ticker(engine: Engine, stop: Arc<AtomicBool>) -> std::io::Result<()> {
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    })?;
    Ok(())
}
