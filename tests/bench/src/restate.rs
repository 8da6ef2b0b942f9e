//! A peer for durable events: Restate's server with a service of its Node SDK, both from npm, with their defaults.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_harness::{Api, until};
use tokio::process::{Child, Command};

use crate::load::Load;
use crate::peer::{free_port, run};

const PACKAGES: [&str; 2] = ["@restatedev/restate-server@1.7", "@restatedev/restate-sdk@1"];
const SERVICE: &str = include_str!("../peer/restate.mjs");
const START: Duration = Duration::from_secs(60);

/// A running server with its service.
pub struct Restate {
    ingress: String,
    counts: Api,
    // Held until the end.
    _server: Child,
    _service: Child,
    _data: TempDir,
}

impl Restate {
    /// Installs what is missing, starts both, and registers the service.
    pub async fn start(cache: &Path) -> Result<Self> {
        let home = install(cache).await?;
        let program = program(&home)?;
        let data = tempfile::Builder::new().prefix("tidegate-peer-").tempdir();
        let data = data.context("no temporary folder")?;
        let [ingress, admin, node, service, counts] = [(); 5].map(|()| free_port());
        let (ingress, admin, node) = (ingress?, admin?, node?);
        let (service, counts) = (service?, counts?);
        let server = Command::new(program)
            .args(["--base-dir", &data.path().display().to_string()])
            .env("RESTATE_INGRESS__BIND_ADDRESS", format!("127.0.0.1:{ingress}"))
            .env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"))
            .env("RESTATE_BIND_ADDRESS", format!("127.0.0.1:{node}"))
            .env("RESTATE_LOG_FILTER", "warn")
            .env("DO_NOT_TRACK", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start Restate's server")?;
        let handlers = Command::new("node")
            .args(["service.mjs", &service.to_string(), &counts.to_string()])
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start Restate's service")?;
        let peer = Self {
            ingress: format!("127.0.0.1:{ingress}"),
            counts: Api::new(&format!("http://127.0.0.1:{counts}"), None)?,
            _server: server,
            _service: handlers,
            _data: data,
        };
        let admin = Api::new(&format!("http://127.0.0.1:{admin}"), None)?;
        peer.register(&admin, service).await?;
        Ok(peer)
    }

    async fn register(&self, admin: &Api, service: u16) -> Result<()> {
        let deployment = json!({ "uri": format!("http://127.0.0.1:{service}") }).to_string();
        until("Restate's server and service", START, async || {
            let answered = admin
                .post_raw("/deployments", deployment.clone().into_bytes())
                .await;
            Ok(answered.ok().filter(|(status, _)| (200..300).contains(status)))
        })
        .await?;
        Ok(())
    }

    /// One-way calls of a service through the ingress, and how many a second had run to the end of `last`.
    pub async fn completions(
        &self,
        service: &str,
        last: &str,
        calls: usize,
        connections: usize,
    ) -> Result<f64> {
        let load = Load {
            address: self.ingress.clone(),
            path: format!("/{service}/run/send"),
            headers: Vec::new(),
            bodies: vec![Bytes::from_static(b"{}")],
            connections,
        };
        let before = self.handled(last).await?;
        let started = Instant::now();
        load.run_times(calls).await?;
        let sent = (calls.div_ceil(connections) * connections) as u64;
        until("Restate's completions", Duration::from_secs(300), async || {
            Ok((self.handled(last).await? >= before + sent).then_some(()))
        })
        .await?;
        Ok(sent as f64 / started.elapsed().as_secs_f64())
    }

    async fn handled(&self, service: &str) -> Result<u64> {
        let counts: Value = self.counts.get("/").await?;
        counts[service].as_u64().context("no count of what was handled")
    }
}

/// The packages in the cache, and the service beside them.
async fn install(cache: &Path) -> Result<PathBuf> {
    let home = cache.join("bench-restate");
    std::fs::create_dir_all(&home).with_context(|| format!("cannot make `{}`", home.display()))?;
    std::fs::write(home.join("service.mjs"), SERVICE).context("cannot write the peer's service")?;
    let ready = home.join("ready");
    if !ready.is_file() {
        eprintln!(
            "    installing the peer into `{}`: {}",
            home.display(),
            PACKAGES.join(", ")
        );
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
        run(npm.arg(&home).args(PACKAGES).current_dir(&home)).await?;
        std::fs::write(&ready, "").context("cannot mark the peer as installed")?;
    }
    Ok(home)
}

/// The server itself, not the script that starts it: that one would be ended alone.
fn program(home: &Path) -> Result<PathBuf> {
    let packages =
        std::fs::read_dir(home.join("node_modules/@restatedev")).context("no packages of Restate")?;
    let mut programs = packages
        .flatten()
        .map(|package| package.path().join("bin/restate-server"));
    programs
        .find(|program| program.is_file())
        .context("npm has no `restate-server` for this machine")
}
