//! The worker process: found, started, watched, started again when it dies, ended with the host.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use tidegate_trace::Endpoint;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// The executable's name.
const PROGRAM: &str = "tidegate-worker";
/// Names the executable in the environment.
pub const PROGRAM_VARIABLE: &str = "TIDEGATE_WORKER";
/// The pause before a restart, doubled with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a request around its tensors: names, shapes and parameters.
const AROUND: u64 = 1 << 20;
/// One that ran for this long is not thought to be broken.
const STEADY: Duration = Duration::from_secs(60);
/// How long the worker may take to end when it is told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a worker process is told by its environment.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The gateway, over plain HTTP.
    pub host: String,
    /// What it presents there.
    pub token: String,
    /// The ONNX Runtime library, where the operator names one.
    pub onnxruntime: Option<PathBuf>,
    /// What that computes with, the first preferred, with commas.
    pub execution_providers: String,
    /// What jobs of kind `train.command` may run, by name.
    pub commands: BTreeMap<String, Vec<String>>,
    /// Bytes of memory that its models may take.
    pub model_memory: u64,
    /// Bytes of the tensors of an inference request.
    pub max_request: u64,
    /// The collector that takes its spans.
    pub collector: Option<Endpoint>,
}

/// The worker's executable: as given, by the environment, or beside the host's own.
pub fn find(given: Option<&Path>) -> Result<PathBuf> {
    let named = given
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(PROGRAM_VARIABLE).map(Into::into));
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()
            .context("cannot tell where this executable lies")?
            .with_file_name(PROGRAM),
    };
    if path.is_file() {
        return Ok(path);
    }
    anyhow::bail!(
        "no worker at `{}`: jobs wait and models do not answer until one is there; set `worker.program` or \
         `{PROGRAM_VARIABLE}`, or `worker.start = false` where workers run elsewhere",
        path.display()
    )
}

/// Who is told of a worker's coming and going, and knows whether there is something for it to do.
#[async_trait]
pub trait Watcher: Send + Sync + 'static {
    /// The process has started.
    fn started(&self);
    /// The process has ended, because it was told to or by itself.
    async fn ended(&self, told: bool);
    /// Waits until there is something for a worker to do.
    async fn wanted(&self);
    /// Waits until the worker has had nothing to do for a time.
    async fn idle(&self, time: Duration);
}

/// How a worker process ended.
enum Ended {
    /// It was told to: its host ends, or it had nothing to do.
    Told,
    /// By itself.
    Itself(ExitStatus),
}

/// Keeps one worker process running.
pub struct Supervisor<W> {
    program: PathBuf,
    surroundings: Surroundings,
    /// After how long with nothing to do the worker is ended, until there is something again.
    idle: Option<Duration>,
    watcher: W,
}

impl<W: Watcher> Supervisor<W> {
    /// A supervisor of `program`.
    pub fn new(program: PathBuf, surroundings: Surroundings, idle: Option<Duration>, watcher: W) -> Self {
        Self {
            program,
            surroundings,
            idle,
            watcher,
        }
    }

    /// Runs the worker until `stop`, again and again.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.idle.is_some() {
                stop.run_until_cancelled(self.watcher.wanted()).await;
            }
            if stop.is_cancelled() {
                return;
            }
            let since = Instant::now();
            let ended = self.run_once(&stop).await;
            let told = stop.is_cancelled() || matches!(ended, Ok(Ended::Told));
            self.watcher.ended(told).await;
            if told {
                continue;
            }
            pause = if since.elapsed() >= STEADY {
                FIRST_PAUSE
            } else {
                pause
            };
            match ended {
                Ok(Ended::Told) => {}
                Ok(Ended::Itself(status)) => {
                    tracing::warn!(%status, ?pause, "the worker ended; it is started again")
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), ?pause, "the worker does not start")
                }
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn run_once(&self, stop: &CancellationToken) -> Result<Ended> {
        let mut child = self.spawn()?;
        self.watcher.started();
        tracing::info!(pid = child.id(), "worker started");
        // Held open for as long as the host lives: the worker ends when it is closed.
        let lifeline = child.stdin.take();
        let ended = tokio::select! {
            status = child.wait() => status.map(Ended::Itself),
            () = self.told_to_end(stop) => say_goodbye(&mut child).await.map(|_status| Ended::Told),
        };
        drop(lifeline);
        ended.with_context(|| format!("cannot wait for `{}`", self.program.display()))
    }

    /// Waits until the worker is to end.
    async fn told_to_end(&self, stop: &CancellationToken) {
        let Some(time) = self.idle else {
            return stop.cancelled().await;
        };
        if stop.run_until_cancelled(self.watcher.idle(time)).await.is_some() {
            tracing::info!(idle = ?time, "worker ends: it has nothing to do");
        }
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .env("TIDEGATE_HOST", &self.surroundings.host)
            .env("TIDEGATE_WORKER_TOKEN", &self.surroundings.token)
            .env(
                "TIDEGATE_MODEL_MEMORY",
                self.surroundings.model_memory.to_string(),
            )
            .env(
                "TIDEGATE_INFERENCE_MAX_REQUEST",
                (self.surroundings.max_request + AROUND).to_string(),
            )
            .env(
                "TIDEGATE_EXECUTION_PROVIDERS",
                &self.surroundings.execution_providers,
            )
            .env(
                "TIDEGATE_COMMANDS",
                serde_json::to_string(&self.surroundings.commands)?,
            )
            // It is asked on this machine, without TLS, whatever others here are told by the environment.
            .env_remove("TIDEGATE_CERT_FILE")
            .env_remove("TIDEGATE_KEY_FILE")
            .env_remove("TIDEGATE_CA_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // The terminal's Ctrl-C is for the host, which then ends the worker in its turn.
            .process_group(0)
            .kill_on_drop(true);
        if !std::io::stderr().is_terminal() {
            command.env("NO_COLOR", "1");
        }
        if let Some(collector) = &self.surroundings.collector {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.to_string());
        }
        if let Some(library) = &self.surroundings.onnxruntime {
            command.env("TIDEGATE_ORT", library);
        }
        command
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.program.display()))
    }
}

async fn say_goodbye(child: &mut Child) -> std::io::Result<ExitStatus> {
    if let Some(pid) = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
    {
        tracing::debug!(%error, "the worker is gone already");
    }
    match tokio::time::timeout(FAREWELL, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            tracing::warn!("the worker has not ended within {FAREWELL:?}; it is killed");
            child.kill().await?;
            child.wait().await
        }
    }
}
