//! What every part of the platform shares. The clock, randomness and task spawning are taken from here.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tidegate_trace::{Context, Spans};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::dispatch::{Gate, Places, Rates};
use crate::inference::Inference;
use crate::metrics::Metrics;
use crate::records::{KeptRequests, Records};
use crate::store::Store;
use crate::trigger::Router;
use crate::world::World;

/// The shared parts.
pub struct Services {
    /// State, objects and queues.
    pub store: Arc<dyn Store>,
    /// Models.
    pub inference: Arc<dyn Inference>,
    /// What ran.
    pub records: Records,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// The places for invocations.
    pub gate: Gate,
    /// What functions with a rate have used up of it.
    pub rates: Rates,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Told when a unit of this host has a job wait.
    pub queued_jobs: Notify,
    /// Cancelled when the platform drains.
    pub stopping: CancellationToken,
    world: World,
    router: RwLock<Arc<Router>>,
    /// Tables that were replaced while somebody routed by them.
    replaced: Mutex<Vec<Weak<Router>>>,
    tasks: TaskTracker,
    /// Those that an answer leaves behind.
    leftovers: TaskTracker,
}

impl Services {
    /// Shared parts over a store, with no function deployed.
    pub fn new(store: Arc<dyn Store>, inference: Arc<dyn Inference>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::in_world(
            World::real(clock),
            store,
            inference,
            Places::default(),
            KeptRequests::default(),
        )
    }

    /// The same in a world of one's own, with so many places for invocations and records of requests.
    pub fn in_world(
        world: World,
        store: Arc<dyn Store>,
        inference: Arc<dyn Inference>,
        places: Places,
        requests: KeptRequests,
    ) -> Arc<Self> {
        Arc::new(Self {
            records: Records::new(store.clone(), requests),
            store,
            inference,
            metrics: Metrics::default(),
            gate: Gate::new(places),
            rates: Rates::default(),
            clock: world.clock.clone(),
            queued_jobs: Notify::new(),
            world,
            stopping: CancellationToken::new(),
            router: RwLock::default(),
            replaced: Mutex::default(),
            tasks: TaskTracker::new(),
            leftovers: TaskTracker::new(),
        })
    }

    /// Who gets which event.
    pub fn router(&self) -> Arc<Router> {
        self.router.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Routes by another table from now on.
    pub fn set_router(&self, router: Router) {
        let mut present = self.router.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *present, Arc::new(router));
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.push(Arc::downgrade(&before));
    }

    /// Whether nobody routes by a table any more that was replaced.
    pub fn routes_anew(&self) -> bool {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|router| router.strong_count() > 0);
        replaced.is_empty()
    }

    /// Runs a task that a drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.world.spawner.spawn(Box::pin(self.tasks.track_future(task)));
    }

    /// The same, of what an answer to a request leaves to be done: its record and its lines.
    pub fn spawn_leftover(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(self.leftovers.track_future(task));
    }

    /// Waits until nothing is left that answers left behind.
    pub async fn tidied(&self) {
        self.leftovers.close();
        self.leftovers.wait().await;
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A new id that sorts by time.
    pub fn new_id(&self) -> String {
        ulid::Ulid::from_parts(self.clock.now_ms(), self.draw_wide()).to_string()
    }

    /// Where spans go.
    pub fn spans(&self) -> &Spans {
        &self.world.spans
    }

    /// A new span, as a `traceparent`: below the one that this task runs inside of, else the root of a new trace.
    pub fn new_traceparent(&self) -> String {
        let span = self.world.chance.draw();
        let context = match tidegate_trace::current() {
            Some(current) => current.at(span),
            None => Context::root(self.draw_wide(), span),
        };
        context.to_string()
    }

    /// A number in [0, 1), for jitter.
    pub fn random(&self) -> f64 {
        (self.world.chance.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn draw_wide(&self) -> u128 {
        (u128::from(self.world.chance.draw()) << 64) | u128::from(self.world.chance.draw())
    }
}
