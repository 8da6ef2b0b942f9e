//! Lambda on this machine: its Runtime API as it is documented, and a function that is started as Lambda starts it.

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::extract::{Path as Named, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::Value;
use tidegate_harness::Install;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// An invocation at most, on a machine that builds beside it.
const LIMIT: Duration = Duration::from_secs(240);

/// What a function answered to one invocation.
#[derive(Debug)]
pub struct Answer {
    /// Whether it is an answer, and no error.
    pub ok: bool,
    /// The headers that it came with.
    pub headers: HeaderMap,
    /// What it says.
    pub body: Bytes,
}

impl Answer {
    /// The answer as JSON.
    pub fn json(&self) -> Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).with_context(|| format!("the function answered `{text}`"))
    }
}

/// A function that runs, until it is dropped.
pub struct Lambda {
    events: mpsc::UnboundedSender<(String, Value)>,
    desk: Arc<Desk>,
    log: std::path::PathBuf,
    numbers: AtomicU64,
    _function: Child,
}

/// What the function asks and answers.
struct Desk {
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, Value)>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    /// When the first invocation was handed out.
    first: OnceLock<Instant>,
}

impl Lambda {
    /// Starts the `bootstrap` of a package with a folder that it may write.
    pub async fn start(package: &Path, scratch: &Path) -> Result<Self> {
        let (events, queued) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk {
            events: tokio::sync::Mutex::new(queued),
            waiting: Mutex::default(),
            first: OnceLock::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let api = axum::Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(desk.clone());
        tokio::spawn(async move { axum::serve(listener, api).await });
        let log = scratch.join("lambda.log");
        let function = Command::new(package.join("bootstrap"))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "tides")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
            .env("LAMBDA_TASK_ROOT", package)
            .env("TIDEGATE_DATA_DIR", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the function")?;
        Ok(Self {
            events,
            desk,
            log,
            numbers: AtomicU64::new(0),
            _function: function,
        })
    }

    /// Makes a package in a folder: the host as `bootstrap`, an app, its components, and a configuration.
    pub fn pack(folder: &Path, manifest: &str, config: &str) -> Result<()> {
        let install = Install::find()?;
        std::fs::write(folder.join("tidegate.toml"), manifest)?;
        std::fs::write(folder.join("config.toml"), config)?;
        std::os::unix::fs::symlink(&install.functions, folder.join("components"))?;
        std::os::unix::fs::symlink(&install.tidegate, folder.join("bootstrap"))?;
        Ok(())
    }

    /// Makes a package in a folder as `tidegate package` does, unpacked as Lambda unpacks it.
    pub async fn pack_whole(folder: &Path, manifest: &str, config: &str) -> Result<()> {
        let install = Install::find()?;
        let (app, settings, zip) = (
            folder.join("app.toml"),
            folder.join("settings.toml"),
            folder.join("lambda.zip"),
        );
        std::fs::write(&app, manifest)?;
        std::fs::write(&settings, config)?;
        let mut package = Command::new(&install.tidegate);
        package
            .arg("package")
            .arg(&app)
            .arg("--config")
            .arg(&settings)
            .arg("--out")
            .arg(&zip);
        package.arg("--components").arg(&install.functions);
        run(&mut package).await?;
        let mut unpack = Command::new("python3");
        run(unpack.args(["-m", "zipfile", "-e"]).arg(&zip).arg(folder)).await?;
        // What unpacks it here leaves the modes out.
        std::fs::set_permissions(folder.join("bootstrap"), Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Invokes it, and waits for what it answers.
    pub async fn invoke(&self, event: Value) -> Result<Answer> {
        let id = format!("invocation-{}", self.numbers.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        self.desk.waiting().insert(id.clone(), sender);
        self.events.send((id, event)).context("the function is gone")?;
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(answer) => answer.context("the function gave no answer"),
            Err(_) => bail!("no answer after {LIMIT:?}: {}", self.told()),
        }
    }

    /// When it was handed its first invocation; none before.
    pub fn first_handed(&self) -> Option<Instant> {
        self.desk.first.get().copied()
    }

    /// What it logged.
    pub fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let ended = command
        .output()
        .await
        .with_context(|| format!("cannot start {command:?}"))?;
    let told = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(ended.status.success(), "{command:?} failed: {told}");
    Ok(())
}

impl Desk {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, id: &str, answer: Answer) -> StatusCode {
        let Some(waiting) = self.waiting().remove(id) else {
            return StatusCode::BAD_REQUEST;
        };
        match waiting.send(answer) {
            Ok(()) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::GONE,
        }
    }
}

async fn next(State(desk): State<Arc<Desk>>) -> Response {
    let next = desk.events.lock().await.recv().await;
    let Some((id, event)) = next else {
        return StatusCode::GONE.into_response();
    };
    desk.first.get_or_init(Instant::now);
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", "4102444800000".into()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:tides".into(),
        ),
    ];
    (headers, event.to_string()).into_response()
}

async fn response(
    State(desk): State<Arc<Desk>>,
    Named(id): Named<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let ok = true;
    desk.answer(&id, Answer { ok, headers, body })
}

async fn error(
    State(desk): State<Arc<Desk>>,
    Named(id): Named<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let ok = false;
    desk.answer(&id, Answer { ok, headers, body })
}
