//! A host that speaks the job protocol from memory, and the worker's process.

use std::collections::{BTreeMap, HashMap};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

const TOKEN: &str = "secret";
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Job {
    kind: String,
    config: Value,
    lease: Option<String>,
    attempts: u32,
    checkpoints: usize,
    progress: bool,
    withdrawn: bool,
    ended: Option<Result<Value, String>>,
}

#[derive(Default)]
struct World {
    jobs: BTreeMap<String, Job>,
    objects: BTreeMap<String, Bytes>,
    writes: HashMap<String, usize>,
    inference: Option<String>,
    leases: u32,
}

impl World {
    /// The job of `id` when `token` is its lease.
    fn leased(&mut self, id: &str, token: &str) -> Option<&mut Job> {
        self.jobs
            .get_mut(id)
            .filter(|job| job.lease.as_deref() == Some(token))
    }
}

type Shared = Arc<Mutex<World>>;

/// The host.
pub struct FakeHost {
    world: Shared,
    address: String,
}

impl FakeHost {
    pub async fn start() -> Self {
        let world = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/register", post(register))
            .route("/lease", post(lease))
            .route("/jobs/{id}/{call}", post(job))
            .route("/objects/{bucket}", get(list))
            .route("/objects/{bucket}/{*key}", get(read).put(write))
            .route("/models", get(model))
            .layer(DefaultBodyLimit::disable())
            .with_state(world.clone());
        let routes = Router::new().nest("/worker/v1", routes);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { world, address }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn put_object(&self, name: &str, content: Vec<u8>) {
        self.world().objects.insert(name.to_owned(), content.into());
    }

    pub fn object(&self, name: &str) -> Option<Bytes> {
        self.world().objects.get(name).cloned()
    }

    /// The objects whose names start with `prefix`.
    pub fn objects(&self, prefix: &str) -> BTreeMap<String, Bytes> {
        let world = self.world();
        let found = world
            .objects
            .iter()
            .filter_map(|(name, content)| Some((name.strip_prefix(prefix)?.to_owned(), content.clone())));
        found.collect()
    }

    /// How often an object was written by workers.
    pub fn writes(&self, name: &str) -> usize {
        self.world().writes.get(name).copied().unwrap_or_default()
    }

    pub fn submit(&self, id: &str, kind: &str, config: Value) {
        let job = Job {
            kind: kind.to_owned(),
            config,
            ..Job::default()
        };
        self.world().jobs.insert(id.to_owned(), job);
    }

    pub fn finished(&self, id: &str) -> Option<Result<Value, String>> {
        self.world().jobs[id].ended.clone()
    }

    pub fn seen_progress(&self, id: &str) -> bool {
        self.world().jobs[id].progress
    }

    /// Takes the job from its worker and gives it to nobody.
    pub fn withdraw(&self, id: &str) {
        let mut world = self.world();
        let job = world.jobs.get_mut(id).unwrap();
        (job.lease, job.withdrawn) = (None, true);
    }

    pub fn expire_leases(&self) {
        let mut world = self.world();
        world.inference = None;
        world.jobs.values_mut().for_each(|job| job.lease = None);
    }

    async fn until<T>(&self, what: &str, look: impl Fn(&World) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(&self.world()) {
                return found;
            }
            assert!(begun.elapsed() < DEADLINE, "waited too long for {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the job has written so many checkpoints.
    pub async fn checkpoints(&self, id: &str, count: usize) {
        let enough = |world: &World| (world.jobs[id].checkpoints >= count).then_some(());
        self.until(&format!("checkpoint {count} of `{id}`"), enough).await;
    }

    /// How many it has written.
    pub fn checkpoints_of(&self, id: &str) -> usize {
        self.world().jobs[id].checkpoints
    }

    pub async fn outputs(&self, id: &str) -> Value {
        self.until(&format!("`{id}`"), |world| world.jobs[id].ended.clone())
            .await
            .unwrap()
    }

    pub async fn failure(&self, id: &str) -> String {
        self.until(&format!("`{id}`"), |world| world.jobs[id].ended.clone())
            .await
            .unwrap_err()
    }

    /// Where a registered worker serves inference.
    pub async fn inference(&self) -> String {
        self.until("a worker", |world| world.inference.clone()).await
    }
}

fn known(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == format!("Bearer {TOKEN}").as_str())
}

async fn register(State(world): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !known(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let kinds = body["kinds"].as_array().unwrap();
    assert!(kinds.contains(&json!("train.two-tower")), "{body}");
    assert!(body["devices"][0]["memory_bytes"].as_u64().unwrap() > 0);
    world.lock().unwrap().inference = Some(body["inference_addr"].as_str().unwrap().to_owned());
    Json(json!({})).into_response()
}

async fn lease(State(world): State<Shared>, Json(body): Json<Value>) -> Response {
    let wait = Duration::from_millis(body["wait_ms"].as_u64().unwrap().min(500));
    let begun = Instant::now();
    loop {
        if let Some(leased) = next_job(&mut world.lock().unwrap()) {
            return Json(leased).into_response();
        }
        if begun.elapsed() >= wait {
            return StatusCode::NO_CONTENT.into_response();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn next_job(world: &mut World) -> Option<Value> {
    world.leases += 1;
    let token = format!("lease-{}", world.leases);
    let free = |job: &Job| job.lease.is_none() && job.ended.is_none() && !job.withdrawn;
    let (id, job) = world.jobs.iter_mut().find(|(_, job)| free(job))?;
    job.attempts += 1;
    job.lease = Some(token.clone());
    let job = json!({"id": id, "kind": job.kind, "config": job.config, "attempt": job.attempts, "run": "r"});
    Some(json!({"job": job, "lease": {"token": token, "expires_ms": 500}}))
}

async fn job(
    State(world): State<Shared>,
    Path((id, call)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let mut world = world.lock().unwrap();
    let Some(job) = world.leased(&id, body["token"].as_str().unwrap()) else {
        return StatusCode::CONFLICT.into_response();
    };
    match call.as_str() {
        "heartbeat" => {
            job.progress |= body["progress"]["unit"] == "steps";
            return Json(json!({})).into_response();
        }
        "complete" => job.ended = Some(Ok(body["outputs"].clone())),
        _ => {
            assert_eq!(body["retry"], json!(false), "{body}");
            job.ended = Some(Err(body["reason"].as_str().unwrap().to_owned()));
        }
    }
    job.lease = None;
    StatusCode::OK.into_response()
}

async fn list(
    State(world): State<Shared>,
    Path(bucket): Path<String>,
    Query(asked): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    assert!(headers.contains_key("x-tidegate-lease"));
    let (prefix, after) = (&asked["prefix"], asked.get("after"));
    let world = world.lock().unwrap();
    let keys = world
        .objects
        .keys()
        .filter_map(|name| name.strip_prefix(&format!("{bucket}/")));
    let keys = keys.filter(|key| key.starts_with(prefix) && after.is_none_or(|after| *key > after.as_str()));
    Json(json!({ "keys": keys.take(7).collect::<Vec<_>>() })).into_response()
}

/// Every model lies where its name says, and has one version.
async fn model(Query(asked): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    assert!(headers.contains_key("x-tidegate-lease"));
    let name = asked["reference"].split('@').next().unwrap();
    let key = format!("{name}.onnx");
    Json(json!({ "name": name, "version": "1", "bucket": "models", "key": key })).into_response()
}

async fn read(
    State(world): State<Shared>,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    assert!(known(&headers));
    let path = format!("{bucket}/{key}");
    let found = world.lock().unwrap().objects.get(&path).cloned();
    found.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        IntoResponse::into_response,
    )
}

async fn write(
    State(world): State<Shared>,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = format!("{bucket}/{key}");
    let token = headers["x-tidegate-lease"].to_str().unwrap().to_owned();
    let mut world = world.lock().unwrap();
    let Some((id, job)) = world
        .jobs
        .iter_mut()
        .find(|(_, job)| job.lease.as_deref() == Some(&token))
    else {
        return StatusCode::CONFLICT.into_response();
    };
    if path == format!("tidegate-jobs/{id}/checkpoint") {
        job.checkpoints += 1;
    }
    *world.writes.entry(path.clone()).or_default() += 1;
    world.objects.insert(path, body);
    StatusCode::OK.into_response()
}

/// A worker's process; killed when dropped.
pub struct Worker(Child);

impl Worker {
    /// Starts the real binary; it checkpoints every few steps.
    pub fn spawn(host: &FakeHost) -> Self {
        Self::with_commands(host, &json!({}))
    }

    /// The same, with what jobs of kind `train.command` may run.
    pub fn with_commands(host: &FakeHost, commands: &Value) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate-worker"))
            .env("TIDEGATE_HOST", &host.address)
            .env("TIDEGATE_WORKER_TOKEN", TOKEN)
            .env("TIDEGATE_CHECKPOINT_MS", "1")
            .env("TIDEGATE_COMMANDS", commands.to_string())
            .env("RUST_LOG", "warn")
            .stdin(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// SIGKILL.
    /// The bytes of memory that are its own and of no file.
    pub fn anonymous_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap() * 1024
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn close_stdin_and_wait(mut self, longest: Duration) {
        drop(self.0.stdin.take());
        self.wait(longest);
    }

    pub fn terminate_and_wait(mut self, longest: Duration) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        self.wait(longest);
    }

    fn wait(&mut self, longest: Duration) {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < longest, "the worker did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
