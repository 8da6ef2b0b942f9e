//! The platform: what the host's faces (HTTP, S3, the command line) call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::SystemClock;
use crate::deploy::{self, Deployable, Deployed, FunctionInfo, Places};
use crate::dispatch::{DeadLetters, Dispatcher};
use crate::effects::{Cause, Draft};
use crate::event::Event;
use crate::inference::Inference;
use crate::jobs::Jobs;
use crate::manifest::{Function, Manifest, Mistakes, Trigger};
use crate::records::Records;
use crate::sandbox::{Body, Call, Failure, HttpFunction, Pool, Program, Sandbox, Sandboxed};
use crate::services::Services;
use crate::store::{CommitError, Condition, ObjectMeta, Publication, StateWrite, Store, StoreError};
use crate::trigger::{RouteError, Router, Scheduler};

/// The table of deployed apps.
const APPS: &str = "$apps";
/// The bucket of deployed components, by digest.
const COMPONENTS: &str = "$components";
/// The table of buckets.
pub const BUCKETS: &str = "$buckets";

/// What the platform needs to know.
#[derive(Debug, Clone)]
pub struct PlatformConfig {
    /// The folder of the embedded stores and of compiled components.
    pub data_dir: PathBuf,
    /// Folders searched for components, after the manifest's own.
    pub component_dirs: Vec<PathBuf>,
    /// The sizes of the instance pool.
    pub pool: Pool,
}

impl PlatformConfig {
    /// Defaults, in a folder.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            component_dirs: Vec::new(),
            pool: Pool::default(),
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
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why an app was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The manifest or its components.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// Another app has a function or a route of this name.
    #[error("{0}")]
    Taken(String),
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How an app is kept.
#[derive(Serialize, Deserialize)]
struct AppRecord {
    file: String,
    manifest: String,
    components: BTreeMap<String, String>,
}

struct Running {
    app: String,
    function: Deployable,
    /// Stops the dispatcher of an event function.
    stop: CancellationToken,
}

/// The whole platform in one process.
pub struct Platform {
    config: PlatformConfig,
    services: Arc<Services>,
    sandbox: Arc<Sandbox>,
    jobs: Arc<Jobs>,
    scheduler: Scheduler,
    functions: RwLock<BTreeMap<String, Running>>,
    deploying: tokio::sync::Mutex<()>,
}

impl Platform {
    /// Opens the platform over a store, and runs what was deployed there before.
    pub async fn open(
        config: PlatformConfig,
        store: Arc<dyn Store>,
        inference: Arc<dyn Inference>,
    ) -> anyhow::Result<Arc<Self>> {
        let services = Services::new(store, inference, Arc::new(SystemClock));
        let sandbox = Arc::new(Sandbox::new(config.pool).map_err(engine_error)?);
        let platform = Arc::new(Self {
            jobs: Jobs::start(services.clone()),
            scheduler: Scheduler::new(services.clone()),
            config,
            sandbox,
            functions: RwLock::default(),
            deploying: tokio::sync::Mutex::new(()),
            services,
        });
        platform.restore().await?;
        Ok(platform)
    }

    /// Deploys a manifest with its components; functions of the same app that it no longer names are gone.
    pub async fn deploy(&self, file: &Path) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (sandbox, places, path) = (self.sandbox.clone(), self.places(), file.to_owned());
        let loading = tokio::task::spawn_blocking(move || deploy::load(&sandbox, &path, &places));
        let (manifest, functions) = loading.await.map_err(StoreError::new)??;
        self.refuse_taken(&manifest)?;
        self.keep(file, &manifest, &functions).await?;
        Ok(self.activate(&manifest, functions))
    }

    /// The functions that run.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        self.running()
            .values()
            .map(|running| running.function.info(&running.app))
            .collect()
    }

    /// Publishes or deletes an object from outside; triggers fire.
    pub async fn publish(&self, publication: Publication) -> Result<ObjectMeta, CommitError> {
        let (bucket, key) = (publication.bucket.clone(), publication.key.clone());
        let seen = ObjectMeta {
            key: key.clone(),
            size: publication.staged.as_ref().map_or(0, |staged| staged.size),
            etag: publication
                .staged
                .as_ref()
                .map(|staged| staged.etag.clone())
                .unwrap_or_default(),
            content_type: publication.content_type.clone(),
            modified: self.services.clock.now_ms(),
            sequencer: 0,
            user: publication.user.clone(),
        };
        let mut draft = Draft::new(&self.services);
        draft.object(
            publication,
            &Cause {
                source: format!("/objects/{bucket}"),
                parent: None,
            },
        );
        draft.commit().await?;
        let stored = self.services.store.head(&bucket, &key).await?;
        Ok(stored.unwrap_or(seen))
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
        Ok(self.take_in(event).await?)
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
        Ok(self.take_in(event).await?)
    }

    /// Answers a request by the function that its route names.
    pub async fn http(&self, request: http::Request<Body>) -> http::Response<Body> {
        let route = self
            .services
            .router()
            .http(request.method().as_str(), request.uri().path());
        match route {
            Err(error) => no_route(&request, &error),
            Ok((function, _params)) => match self.http_function(&function) {
                Some((spec, program)) => self.answer(spec, program, request).await,
                None => problem(
                    http::StatusCode::SERVICE_UNAVAILABLE,
                    "the function is being replaced",
                ),
            },
        }
    }

    /// The function that a request would go to.
    pub fn route(&self, method: &str, path: &str) -> Option<Arc<Function>> {
        let (function, _params) = self.services.router().http(method, path).ok()?;
        Some(self.running().get(&function)?.function.spec.clone())
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

    /// Metrics in Prometheus' text format.
    pub fn render_metrics(&self) -> String {
        self.services.metrics.render()
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

    fn running(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Running>> {
        self.functions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> Places {
        Places {
            components: self.config.component_dirs.clone(),
            cache: Some(self.config.data_dir.join("cache")),
        }
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
        }
    }

    async fn take_in(&self, event: Event) -> Result<Accepted, CommitError> {
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
        let running = self.running();
        let Some(found) = running.get(name) else {
            let deployed = running
                .keys()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(EmitError::NoFunction {
                name: name.to_owned(),
                deployed,
            });
        };
        match found.function.component.program {
            Program::Event(_) => Ok(()),
            Program::Http(_) => Err(EmitError::Http(name.to_owned())),
        }
    }

    fn refuse_taken(&self, manifest: &Manifest) -> Result<(), DeployError> {
        let running = self.running();
        let taken = manifest.functions.iter().find_map(|function| {
            running
                .get(&function.name)
                .filter(|running| running.app != manifest.app.name)
                .map(|running| (function, running))
        });
        taken.map_or(Ok(()), |(function, running)| {
            Err(DeployError::Taken(format!(
                "function `{}` belongs to the app `{}` already",
                function.name, running.app
            )))
        })
    }

    /// Keeps the app, so that the next start runs it without its files.
    async fn keep(
        &self,
        file: &Path,
        manifest: &Manifest,
        functions: &[Deployable],
    ) -> Result<(), DeployError> {
        let mut draft = Draft::new(&self.services);
        for function in functions {
            let digest = &function.component.digest;
            let twice = draft
                .unit
                .objects
                .iter()
                .any(|publication| publication.key == *digest);
            if twice || self.services.store.head(COMPONENTS, digest).await?.is_some() {
                continue;
            }
            let mut stage = self.services.store.stage().await?;
            stage.write(function.bytes.clone()).await?;
            draft.unit.objects.push(Publication {
                bucket: COMPONENTS.into(),
                key: digest.clone(),
                staged: Some(stage.finish().await?),
                content_type: Some("application/wasm".into()),
                user: BTreeMap::new(),
                condition: Condition::None,
            });
        }
        let components = functions
            .iter()
            .map(|f| (f.spec.name.clone(), f.component.digest.clone()))
            .collect();
        let record = AppRecord {
            file: file.display().to_string(),
            manifest: manifest.text.clone(),
            components,
        };
        let value = serde_json::to_vec(&record).map_err(StoreError::new)?;
        draft.unit.state.push(put(APPS, &manifest.app.name, value));
        for bucket in buckets_of(manifest) {
            if self.services.store.get(BUCKETS, &bucket).await?.is_none() {
                let created = serde_json::json!({ "created": self.services.clock.now_ms() });
                draft
                    .unit
                    .state
                    .push(put(BUCKETS, &bucket, created.to_string().into_bytes()));
            }
        }
        Ok(draft.commit().await?)
    }

    /// Runs the functions of an app from now on, in place of those it had.
    fn activate(&self, manifest: &Manifest, functions: Vec<Deployable>) -> Deployed {
        let mut running = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, function| {
            let replaced = function.app == manifest.app.name;
            if replaced {
                function.stop.cancel();
            }
            !replaced
        });
        let infos = functions
            .iter()
            .map(|function| function.info(&manifest.app.name))
            .collect();
        for function in functions {
            let stop = match &function.component.program {
                Program::Event(program) => Dispatcher::start(
                    &self.services,
                    function.spec.clone(),
                    Arc::new(Sandboxed {
                        sandbox: self.sandbox.clone(),
                        program: program.clone(),
                    }),
                ),
                Program::Http(_) => CancellationToken::new(),
            };
            let name = function.spec.name.clone();
            running.insert(
                name,
                Running {
                    app: manifest.app.name.clone(),
                    function,
                    stop,
                },
            );
        }
        let specs: Vec<Arc<Function>> = running
            .values()
            .map(|running| running.function.spec.clone())
            .collect();
        drop(running);
        self.services.set_router(Router::new(&specs));
        self.scheduler.set(&specs);
        Deployed {
            app: manifest.app.name.clone(),
            functions: infos,
        }
    }

    async fn restore(&self) -> anyhow::Result<()> {
        let page = self
            .services
            .store
            .query(APPS, "", None, 1000, crate::store::Order::Ascending)
            .await?;
        for (app, row) in page.entries {
            if let Err(error) = self.restore_app(&row.value).await {
                tracing::error!(
                    app,
                    error = format!("{error:#}"),
                    "the app deployed before does not start"
                );
            }
        }
        Ok(())
    }

    async fn restore_app(&self, record: &[u8]) -> anyhow::Result<()> {
        let record: AppRecord = serde_json::from_slice(record)?;
        let manifest = Manifest::parse(&record.manifest, &record.file)?;
        let mut components = BTreeMap::new();
        for (function, digest) in &record.components {
            let object = self.services.store.open(COMPONENTS, digest).await?;
            let object = object
                .with_context(|| format!("component `{digest}` of function `{function}` is missing"))?;
            components.insert(function.clone(), read_all(object.as_ref()).await?);
        }
        let (sandbox, places) = (self.sandbox.clone(), self.places());
        let parsed = manifest.clone();
        let linking = tokio::task::spawn_blocking(move || {
            let bytes_of = |spec: &Function| {
                components
                    .get(&spec.name)
                    .cloned()
                    .ok_or_else(|| "not kept".to_owned())
            };
            deploy::link(&sandbox, &parsed, &record.file, &places, bytes_of)
        });
        self.activate(&manifest, linking.await??);
        Ok(())
    }

    fn http_function(&self, name: &str) -> Option<(Arc<Function>, Arc<HttpFunction>)> {
        let running = self.running();
        let function = &running.get(name)?.function;
        match &function.component.program {
            Program::Http(program) => Some((function.spec.clone(), program.clone())),
            Program::Event(_) => None,
        }
    }

    /// Runs an HTTP function. One that may write is answered only when its effects are committed.
    async fn answer(
        &self,
        spec: Arc<Function>,
        program: Arc<HttpFunction>,
        request: http::Request<Body>,
    ) -> http::Response<Body> {
        let started = std::time::Instant::now();
        let traceparent = request
            .headers()
            .get("traceparent")
            .and_then(|value| value.to_str().ok());
        let event = Event {
            traceparent: self.services.child_traceparent(traceparent.unwrap_or_default()),
            ..self.root(
                "/http",
                "tidegate.http",
                Some(request.uri().path().to_owned()),
                None,
                Bytes::new(),
            )
        };
        let call = Call::new(self.services.clone(), spec.clone(), Arc::new(event), 1);
        let writes = spec.grants.may_write();
        let (response, leftover) = program.run(&self.sandbox, call.clone(), request).await;
        let response = match response {
            Ok(response) if writes => match self.hold_back(response, leftover, &spec, &call).await {
                Ok(response) => response,
                Err(failure) => failed(&spec, &failure),
            },
            Ok(response) => response,
            Err(failure) => failed(&spec, &failure),
        };
        let outcome = if response.status().is_server_error() {
            "error"
        } else {
            "done"
        };
        self.services
            .metrics
            .invocation(&spec.name, outcome, started.elapsed().as_secs_f64());
        response
    }

    async fn hold_back(
        &self,
        response: http::Response<Body>,
        leftover: tokio::sync::oneshot::Receiver<crate::sandbox::Leftover>,
        spec: &Function,
        call: &Call,
    ) -> Result<http::Response<Body>, Failure> {
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| Failure::Trap(error.to_string()))?
            .to_bytes();
        let leftover = leftover
            .await
            .map_err(|_| Failure::Trap("the instance is gone".into()))?;
        let staged = leftover.result?;
        if !staged.is_empty() {
            let mut draft = Draft::new(&self.services);
            draft.staged(staged, spec, &call.event);
            draft.commit().await.map_err(|error| Failure::Retry {
                reason: error.to_string(),
                delay: None,
            })?;
        }
        Ok(http::Response::from_parts(head, full(body)))
    }
}

async fn read_all(object: &dyn crate::store::ObjectReader) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < object.meta().size {
        let part = object.read_at(bytes.len() as u64, 4 << 20).await?;
        if part.is_empty() {
            return Err(StoreError(format!("object `{}` is cut short", object.meta().key)));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn put(table: &str, key: &str, value: Vec<u8>) -> StateWrite {
    StateWrite {
        table: table.into(),
        key: key.into(),
        value: Some(value.into()),
        condition: Condition::None,
    }
}

/// The buckets that a manifest names.
fn buckets_of(manifest: &Manifest) -> std::collections::BTreeSet<String> {
    let mut buckets = std::collections::BTreeSet::from(["tidegate-jobs".to_owned()]);
    for function in &manifest.functions {
        let grants = &function.grants.objects;
        buckets.extend(
            grants
                .read
                .iter()
                .chain(&grants.write)
                .map(|place| place.bucket.clone()),
        );
        buckets.extend(function.record.iter().map(|record| record.bucket.clone()));
        for trigger in &function.triggers {
            if let Trigger::Object { bucket, .. } = trigger {
                buckets.insert(bucket.clone());
            }
        }
    }
    buckets
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn problem(status: http::StatusCode, message: &str) -> http::Response<Body> {
    let code = status
        .canonical_reason()
        .unwrap_or("Error")
        .to_lowercase()
        .replace(' ', "_");
    let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
    let mut response = http::Response::new(full(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn no_route(request: &http::Request<Body>, error: &RouteError) -> http::Response<Body> {
    let (method, path) = (request.method(), request.uri().path());
    match error {
        RouteError::NotFound => problem(
            http::StatusCode::NOT_FOUND,
            &format!("no function has a route for `{method} {path}`"),
        ),
        RouteError::MethodNotAllowed(allowed) => {
            let allowed = allowed.join(", ");
            let message = format!("`{path}` does not take `{method}`; it takes {allowed}");
            let mut response = problem(http::StatusCode::METHOD_NOT_ALLOWED, &message);
            if let Ok(value) = http::HeaderValue::from_str(&allowed) {
                response.headers_mut().insert(http::header::ALLOW, value);
            }
            response
        }
    }
}

fn failed(spec: &Function, failure: &Failure) -> http::Response<Body> {
    tracing::warn!(function = spec.name, %failure, "request failed");
    let status = match failure {
        Failure::Limit(text) if text.contains("wall_time") => http::StatusCode::GATEWAY_TIMEOUT,
        Failure::Retry { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
        _ => http::StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &format!("function `{}` failed: {failure}", spec.name))
}

fn engine_error(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("WebAssembly engine: {error:#}")
}

/// Checks a manifest and its components without running anything.
pub fn check(file: &Path, component_dirs: &[PathBuf]) -> anyhow::Result<Result<Deployed, Mistakes>> {
    let sandbox = Sandbox::new(Pool {
        instances: 8,
        ..Pool::default()
    })
    .map_err(engine_error)?;
    let places = Places {
        components: component_dirs.to_vec(),
        cache: None,
    };
    let checked = deploy::load(&sandbox, file, &places);
    Ok(checked.map(|(manifest, functions)| Deployed {
        functions: functions
            .iter()
            .map(|function| function.info(&manifest.app.name))
            .collect(),
        app: manifest.app.name,
    }))
}
