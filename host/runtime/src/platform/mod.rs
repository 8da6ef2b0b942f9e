//! The platform: what the host's faces (HTTP, S3, the command line) call.

mod aliases;
mod apps;
mod buckets;
mod declared;
mod deployment;
mod exported;
mod fleet;
mod following;
mod handed;
mod handled;
mod replay;
mod requests;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tidegate_trace::Spans;

pub use self::aliases::AliasError;
pub use self::apps::{LIVE, Traffic};
pub use self::buckets::BUCKETS;
pub use self::declared::{Declared, DeclaredState};
pub use self::deployment::{DeployError, check};
pub use self::exported::ExportError;
pub use self::replay::{Replay, ReplayError, Replayed, Which};
pub use self::requests::Routed;
pub use self::versions::{KEPT, VersionInfo, VersionState};

use self::fleet::Fleet;
use crate::clock::SystemClock;
use crate::deploy::FunctionInfo;
use crate::dispatch::{DeadLetters, Dispatcher, NoRoom, Places, completes_joins, has_room};
use crate::effects::Draft;
use crate::event::Event;
use crate::inference::Inference;
use crate::jobs::{Jobs, Limits};
use crate::records::{KeptRequests, Records};
use crate::sandbox::{Pool, Program, Sandbox};
use crate::services::Services;
use crate::store::{CommitError, Depth, StateWrite, Store};
use crate::trigger::{Scheduler, Split};
use crate::world::World;

/// What the platform needs to know.
#[derive(Debug, Clone)]
pub struct PlatformConfig {
    /// The folder of the embedded stores and of compiled components.
    pub data_dir: PathBuf,
    /// Folders searched for components, after the manifest's own.
    pub component_dirs: Vec<PathBuf>,
    /// The sizes of the instance pool.
    pub pool: Pool,
    /// How many invocations there may be at one time.
    pub places: Places,
    /// What jobs may take.
    pub jobs: Limits,
    /// How many requests are kept on record.
    pub requests: KeptRequests,
    /// Where spans go.
    pub spans: Spans,
    /// Whether other hosts use the same store: what they deploy is followed.
    pub shared: bool,
    /// Buckets of others: only notices change what is in them.
    pub attached: BTreeSet<String>,
    /// What is handled here.
    pub handles: Handles,
    /// A folder that is only read, with the machine code of components by their digests, beside what is compiled here.
    pub packaged: Option<PathBuf>,
}

/// What a platform handles of the events that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handles {
    /// The queues of all functions.
    Queues,
    /// None: others on the same store handle them.
    Nothing,
    /// What it is handed. Nothing runs by itself, as the process stands still in between: no queue is claimed, no
    /// schedule fires, nobody is followed.
    Handed,
}

impl PlatformConfig {
    /// Defaults, in a folder.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            component_dirs: Vec::new(),
            pool: Pool::default(),
            places: Places::default(),
            jobs: Limits::default(),
            requests: KeptRequests::default(),
            spans: Spans::default(),
            shared: false,
            attached: BTreeSet::new(),
            handles: Handles::Queues,
            packaged: None,
        }
    }
}

/// An event was taken in.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    /// The event's id.
    pub event: String,
    /// The run that it started.
    pub run: String,
}

/// Why an event was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// No such function.
    #[error("no function `{name}` is deployed; deployed are {deployed}")]
    NoFunction {
        /// What was asked for.
        name: String,
        /// What there is.
        deployed: String,
    },
    /// The function takes requests, not events.
    #[error("function `{0}` answers HTTP requests; call its route instead")]
    Http(String),
    /// Enough events wait.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The whole platform in one process.
pub struct Platform {
    config: PlatformConfig,
    services: Arc<Services>,
    sandbox: Arc<Sandbox>,
    jobs: Arc<Jobs>,
    scheduler: Scheduler,
    fleet: Arc<RwLock<Fleet>>,
    deploying: tokio::sync::Mutex<()>,
    joins: Arc<Dispatcher>,
    /// When it was looked at last what others deployed.
    followed: AtomicU64,
}

impl Platform {
    /// Opens the platform over a store, and runs what was deployed there before.
    pub async fn open(
        config: PlatformConfig,
        store: Arc<dyn Store>,
        inference: Arc<dyn Inference>,
    ) -> anyhow::Result<Arc<Self>> {
        let world = World {
            spans: config.spans.clone(),
            ..World::real(Arc::new(SystemClock))
        };
        let services = Services::in_world(world, store, inference, config.places.clone(), config.requests);
        let sandbox = Arc::new(Sandbox::new(config.pool).map_err(engine_error)?);
        let platform = Arc::new(Self {
            jobs: match config.handles {
                Handles::Handed => Jobs::new(services.clone(), config.jobs.clone()),
                _ => Jobs::start(services.clone(), config.jobs.clone()),
            },
            joins: completes_joins(&services),
            followed: AtomicU64::new(services.clock.now_ms()),
            scheduler: Scheduler::new(services.clone()),
            config,
            sandbox,
            fleet: Arc::default(),
            deploying: tokio::sync::Mutex::new(()),
            services,
        });
        platform.restore().await?;
        if platform.config.handles == Handles::Queues {
            platform.joins.start();
        }
        if platform.config.shared && platform.config.handles != Handles::Handed {
            platform.follow_other_hosts();
        }
        Ok(platform)
    }

    /// Takes in an event from outside.
    pub async fn emit(
        &self,
        kind: &str,
        subject: Option<String>,
        content_type: Option<String>,
        data: Bytes,
    ) -> Result<Accepted, EmitError> {
        let event = self.root("/events", kind, subject, content_type, data);
        self.take_in(event).await
    }

    /// Calls one function, by an event of its own.
    pub async fn invoke(&self, function: &str, data: Bytes) -> Result<Accepted, EmitError> {
        self.invocable(function)?;
        let json = Some("application/json".to_owned());
        let event = self.root(
            "/invoke",
            "tidegate.invoke",
            Some(function.to_owned()),
            json,
            data,
        );
        self.take_in(event).await
    }

    /// Commits rows of the host's own, together with an event that tells of them: its type, its subject and its data.
    pub async fn commit_rows(
        &self,
        source: &str,
        state: Vec<StateWrite>,
        told: Option<(&str, String, serde_json::Value)>,
    ) -> Result<(), CommitError> {
        let mut draft = Draft::new(&self.services);
        draft.unit.state = state;
        if let Some((kind, subject, data)) = told {
            let (json, data) = (Some("application/json".to_owned()), data.to_string().into());
            draft.event(self.root(source, kind, Some(subject), json, data), None);
        }
        draft.commit().await
    }

    /// The functions that are live.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        let fleet = self.fleet();
        let info = |(running, split): (&fleet::Running, &Split)| {
            running.function.info(&running.app, Some(split.clone()))
        };
        fleet.functions().map(info).collect()
    }

    /// State, objects and queues.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.services.store
    }

    /// Jobs for workers.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Events that were given up.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.services.clone())
    }

    /// What ran.
    pub fn records(&self) -> &Records {
        &self.services.records
    }

    /// Metrics in Prometheus' text format. A function whose queues the store does not tell of is left out.
    pub async fn render_metrics(&self) -> String {
        let mut queues: BTreeMap<String, Depth> = BTreeMap::new();
        let loaded = self.fleet().queues();
        for (function, queue) in loaded {
            if let Ok(Depth { ready, delayed }) = self.services.store.recent_depth(&queue).await {
                let of_all = queues.entry(function).or_default();
                of_all.ready += ready;
                of_all.delayed += delayed;
            }
        }
        self.services.metrics.render(queues)
    }

    /// Stops taking events and waits for those that run, up to `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        self.services.stopping.cancel();
        if tokio::time::timeout(deadline, self.services.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                ?deadline,
                "steps still run; their events are delivered again at the next start"
            );
        }
    }

    fn fleet(&self) -> RwLockReadGuard<'_, Fleet> {
        self.fleet.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(
        &self,
        source: &str,
        kind: &str,
        subject: Option<String>,
        content_type: Option<String>,
        data: Bytes,
    ) -> Event {
        let id = self.services.new_id();
        Event {
            source: source.to_owned(),
            kind: kind.to_owned(),
            subject,
            time: self.services.clock.now_ms(),
            content_type,
            data,
            traceparent: self.services.new_traceparent(),
            run: id.clone(),
            id,
            parent: None,
            part_of: None,
        }
    }

    async fn take_in(&self, event: Event) -> Result<Accepted, EmitError> {
        has_room(&self.services, &event).await?;
        let accepted = Accepted {
            event: event.id.clone(),
            run: event.run.clone(),
        };
        let mut draft = Draft::new(&self.services);
        draft.event(event, None);
        draft.commit().await?;
        Ok(accepted)
    }

    fn invocable(&self, name: &str) -> Result<(), EmitError> {
        let fleet = self.fleet();
        let Some(found) = fleet.function(name) else {
            return Err(EmitError::NoFunction {
                name: name.to_owned(),
                deployed: fleet.names(),
            });
        };
        match found.function.component.program {
            Program::Event(_) => Ok(()),
            Program::Http(_) => Err(EmitError::Http(name.to_owned())),
        }
    }
}

fn engine_error(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("WebAssembly engine: {error:#}")
}
