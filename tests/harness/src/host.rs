//! One running host: started, killed, interrupted and started again on the same data.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::compiled;
use crate::install::Install;
use crate::s3::Bucket;

/// The first start compiles every component to machine code.
const START_LIMIT: Duration = Duration::from_secs(180);
const EXIT_LIMIT: Duration = Duration::from_secs(60);

/// How a host is to be started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The app's manifest.
    pub manifest: Option<PathBuf>,
    /// Where its data lies; a temporary folder when none is given.
    pub data_dir: Option<PathBuf>,
    /// The gateway's port; free ones for everything when none is given.
    pub port: Option<u16>,
    /// The one core that it and its worker may use; all of them when none is given.
    pub core: Option<usize>,
    /// A program with arguments that starts it in its own place, such as `env --ignore-signal=XFSZ`.
    pub under: Vec<String>,
    /// Whether it watches its manifest.
    pub watch: bool,
    /// More variables of its environment.
    pub env: Vec<(String, String)>,
}

/// What the host says when it is ready, in the first line of its output.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// The gateway over plain HTTP.
    pub gateway: String,
    /// The gateway over HTTPS.
    pub gateway_tls: String,
    /// The S3 endpoint.
    pub s3: String,
    /// Inference over gRPC.
    pub inference: String,
    /// The certificate to trust.
    pub ca: PathBuf,
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    /// What it said when it was ready.
    pub ready: Ready,
    /// Its gateway, over plain HTTP.
    pub api: Api,
    install: Install,
    options: Options,
    child: Child,
    pid: Pid,
    data_dir: PathBuf,
    // Held for its removal at the end.
    _scratch: Option<TempDir>,
}

impl Host {
    /// Starts a host and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let install = Install::find()?;
        let (data_dir, scratch) = match &options.data_dir {
            Some(given) => (given.clone(), None),
            None => {
                let scratch = tempfile::Builder::new()
                    .prefix("tidegate-")
                    .tempdir()
                    .context("no temporary folder")?;
                (scratch.path().join("data"), Some(scratch))
            }
        };
        std::fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot make `{}`", data_dir.display()))?;
        compiled::lend(&install.functions, &data_dir)?;
        let mut child = spawn(&install, &options, &data_dir)?;
        let ready = wait_until_ready(&mut child, &data_dir).await?;
        compiled::keep(&install.functions, &data_dir)?;
        let api = Api::new(&ready.gateway, None)?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .context("the host ended at once")?;
        Ok(Self {
            ready,
            api,
            install,
            options,
            child,
            pid,
            data_dir,
            _scratch: scratch,
        })
    }

    /// Starts a host with the feed-ranking app as it is.
    pub async fn with_app(manifest: &Path) -> Result<Self> {
        Self::start(Options {
            manifest: Some(manifest.to_path_buf()),
            ..Options::default()
        })
        .await
    }

    /// A client of the gateway over HTTPS, which trusts the host's own certificate only.
    pub fn https(&self) -> Result<Api> {
        let pem = std::fs::read(&self.ready.ca)
            .with_context(|| format!("cannot read the certificate `{}`", self.ready.ca.display()))?;
        Api::new(&self.ready.gateway_tls, Some(&pem))
    }

    /// A bucket through the S3 endpoint.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket::open(&self.ready.s3, name)
    }

    /// Where its data lies.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where it logs to.
    pub fn log_file(&self) -> PathBuf {
        log_file(&self.data_dir)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.data_dir)
    }

    /// The host's process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Ends it as a power cut would.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill the host")
    }

    /// Kills its worker process; whether there was one.
    pub fn kill_worker(&self) -> Result<bool> {
        let Some(worker) = worker_of(self.pid()) else {
            return Ok(false);
        };
        kill_process(worker, Signal::KILL).context("cannot kill the worker")?;
        Ok(true)
    }

    /// Starts it again on the same data, once it has ended.
    pub async fn restart(&mut self) -> Result<()> {
        let mut child = spawn(&self.install, &self.options, &self.data_dir)?;
        self.ready = wait_until_ready(&mut child, &self.data_dir).await?;
        self.api = Api::new(&self.ready.gateway, None)?;
        self.pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .context("the host ended at once")?;
        self.child = child;
        Ok(())
    }

    /// Sends what Ctrl-C sends.
    pub fn interrupt(&self) -> Result<()> {
        kill_process(self.pid, Signal::INT).context("cannot interrupt the host")
    }

    /// Waits for its end.
    pub async fn exited(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(EXIT_LIMIT, self.child.wait()).await;
        let ended =
            ended.with_context(|| format!("the host has not ended within {} s", EXIT_LIMIT.as_secs()))?;
        ended.context("cannot wait for the host")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

fn spawn(install: &Install, options: &Options, data_dir: &Path) -> Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(log_file(data_dir));
    let log = log.with_context(|| format!("cannot write a log in `{}`", data_dir.display()))?;
    let mut under = options.under.clone();
    under.extend(
        options
            .core
            .map(|core| ["taskset".into(), "-c".into(), core.to_string()])
            .into_iter()
            .flatten(),
    );
    let mut command = match under.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&install.tidegate);
            command
        }
        None => Command::new(&install.tidegate),
    };
    command.arg("up");
    if let Some(manifest) = &options.manifest {
        command.arg(manifest);
    }
    if options.watch {
        command.arg("--watch");
    }
    command
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--components")
        .arg(&install.functions);
    if options.port != Some(DEFAULT_PORT) {
        command.args(["--port", &options.port.unwrap_or(0).to_string()]);
    }
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    command
        .spawn()
        .with_context(|| format!("cannot start `{}`", install.tidegate.display()))
}

/// The port the gateway takes by itself.
const DEFAULT_PORT: u16 = 8080;

async fn wait_until_ready(child: &mut Child, data_dir: &Path) -> Result<Ready> {
    let stdout = child.stdout.take().context("the host's output is not ours")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = tokio::time::timeout(START_LIMIT, lines.next_line()).await;
    let first = first.with_context(|| format!("the host is not ready after {} s", START_LIMIT.as_secs()))?;
    let Some(line) = first.context("cannot read the host's output")? else {
        bail!(
            "the host ended before it was ready; its log ends:\n{}",
            log_tail(data_dir)
        );
    };
    // Whatever else it prints must find a reader, or it would block one day.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    serde_json::from_str(&line).with_context(|| format!("the host's first line is `{line}`"))
}

fn log_file(data_dir: &Path) -> PathBuf {
    data_dir.join("host.log")
}

fn log_tail(data_dir: &Path) -> String {
    let text = std::fs::read(log_file(data_dir)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The worker among a host's children.
fn worker_of(host: i32) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let id: i32 = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        // `pid (name) state parent ...`, and the name may hold anything but is cut at 15 bytes.
        let (name, rest) = (stat.split_once('(')?.1, stat.rsplit_once(')')?.1);
        let parent: i32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        let state = rest.split_whitespace().next()?;
        (parent == host && name.starts_with("tidegate-worker") && state != "Z")
            .then(|| Pid::from_raw(id))
            .flatten()
    })
}
