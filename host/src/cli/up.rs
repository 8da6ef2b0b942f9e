//! `tidegate up`: the whole platform in one process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use tidegate_trace::Endpoint;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::{self, LogFormat};
use crate::config::Config;
use crate::host::Host;

/// The exit code of a host that was told twice to end.
const CUT_SHORT: i32 = 130;

/// Runs the platform: gateway, S3 endpoint, stores, and one worker process
#[derive(Args)]
pub struct Up {
    /// An app to deploy at the start (`tidegate.toml`)
    manifest: Option<PathBuf>,
    /// Deploys the app again when its manifest or a component changes; mistakes are told, and what runs goes on
    #[arg(long, requires = "manifest")]
    watch: bool,
    /// The folder of all that is kept [default: .tidegate]
    #[arg(long, env = "TIDEGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The gateway's port [default: 8080]; 0 picks free ports, for S3 and inference too
    #[arg(long)]
    port: Option<u16>,
    /// The S3 endpoint's port [default: 9000]
    #[arg(long)]
    s3_port: Option<u16>,
    /// The port of inference over gRPC [default: 8081]
    #[arg(long)]
    inference_port: Option<u16>,
    /// A folder searched for components, after the manifest's own; may be repeated
    #[arg(long, env = "TIDEGATE_COMPONENTS", value_delimiter = ':')]
    components: Vec<PathBuf>,
    /// A configuration file with all that may be set
    #[arg(long, env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The text of one instead, for places that hand over nothing but variables
    #[arg(long, env = "TIDEGATE_CONFIG_TEXT", hide_env_values = true)]
    config_text: Option<String>,
    /// An OpenTelemetry collector that takes traces, for example http://127.0.0.1:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<Endpoint>,
    /// Starts no worker process
    #[arg(long)]
    no_worker: bool,
    /// How log lines on the standard error output look
    #[arg(long, env = "TIDEGATE_LOG", default_value = "text")]
    log: LogFormat,
}

impl Up {
    pub(super) async fn run(self) -> Result<ExitCode> {
        logging::start(self.log);
        let mut signals = Signals::new()?;
        let config = self.configured()?;
        let starting = Host::start(config, self.manifest.as_deref());
        let mut host = tokio::select! {
            host = starting => host?,
            () = signals.next() => return Ok(ExitCode::from(CUT_SHORT as u8)),
        };
        if let Some(manifest) = self.manifest.as_deref().filter(|_| self.watch) {
            host.watch(manifest)?;
        }
        host.announce()?;
        tokio::select! {
            () = signals.next() => {}
            error = host.failed() => {
                tracing::error!(%error, "ending, so that a new start can recover what was committed");
                anyhow::bail!("{error}; start the host again");
            }
        }
        tokio::spawn(async move {
            signals.next().await;
            tracing::warn!("told twice to end: ending at once");
            std::process::exit(CUT_SHORT);
        });
        host.drain().await;
        Ok(ExitCode::SUCCESS)
    }

    /// The configuration, with what the command line says on top.
    fn configured(&self) -> Result<Config> {
        let mut config = match (&self.config_text, &self.config) {
            (Some(text), _) => Config::parse(text, "the configuration's text")?,
            (None, Some(path)) => Config::load(path)?,
            (None, None) => Config::default(),
        };
        if let Some(folder) = &self.data_dir {
            config.data_dir.clone_from(folder);
        }
        if let Some(port) = self.port {
            config.gateway.listen.set_port(port);
        }
        let free = self.port.filter(|port| *port == 0);
        if let Some(port) = self.s3_port.or(free) {
            config.s3.listen.set_port(port);
        }
        if let Some(port) = self.inference_port.or(free) {
            config.inference.listen.set_port(port);
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            config.otlp.endpoint = Some(endpoint.clone());
        }
        config.components.splice(0..0, self.components.iter().cloned());
        config.worker.start &= !self.no_worker;
        Ok(config)
    }
}

/// Ctrl-C, or a supervisor's request to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        // The terminal echoes `^C`; the next line of the log begins on a line of its own.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
