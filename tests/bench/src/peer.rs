//! The peer: FastAPI, uvicorn and ONNX Runtime, as one would set them up, on one core.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_harness::until;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PACKAGES: [&str; 6] = [
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "numpy",
    "onnxruntime",
];
const APP: &str = include_str!("../peer/app.py");
const BARE: &str = include_str!("../peer/bare.py");

/// A Python with what the peer needs, in the cache.
#[derive(Debug)]
pub struct Peer {
    python: PathBuf,
    folder: tempfile::TempDir,
    model: PathBuf,
    core: usize,
}

impl Peer {
    /// Installs what is missing, and writes the peer's programs.
    pub async fn install(cache: &Path, model: &[u8], core: usize) -> Result<Self> {
        let python = install(cache, "bench-venv", &PACKAGES).await?;
        let folder = tempfile::Builder::new()
            .prefix("tidegate-peer-")
            .tempdir()
            .context("no temporary folder")?;
        let file = folder.path().join("model.onnx");
        for (path, bytes) in [
            (folder.path().join("app.py"), APP.as_bytes()),
            (folder.path().join("bare.py"), BARE.as_bytes()),
            (file.clone(), model),
        ] {
            std::fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(Self {
            python,
            folder,
            model: file,
            core,
        })
    }

    /// Serves on a port; until the returned child is dropped.
    pub async fn serve(&self, port: u16) -> Result<Child> {
        let mut command = self.pinned();
        command.args([
            "-m",
            "uvicorn",
            "app:app",
            "--log-level",
            "warning",
            "--no-access-log",
        ]);
        command.args([
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--port",
            &port.to_string(),
        ]);
        let child = command
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the peer")?;
        until("the peer", Duration::from_secs(60), async || {
            Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await?;
        Ok(child)
    }

    /// Microseconds that ONNX Runtime alone takes for a request of so many rows or items.
    pub async fn bare(&self, rows: u64) -> Result<f64> {
        let output = self
            .pinned()
            .arg("bare.py")
            .env("ROWS", rows.to_string())
            .stderr(Stdio::inherit())
            .output()
            .await;
        let output = output.context("cannot run ONNX Runtime alone")?;
        ensure!(
            output.status.success(),
            "ONNX Runtime alone ended with {}",
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        text.parse().with_context(|| format!("`{text}` is no number"))
    }

    fn pinned(&self) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string()]).arg(&self.python);
        command
            .current_dir(self.folder.path())
            .env("MODEL", &self.model)
            .stdin(Stdio::null());
        command
    }
}

/// A Python of its own in the cache, with packages from PyPI; the path of its interpreter.
pub async fn install(cache: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let venv = cache.join(name);
    let python = venv.join("bin/python");
    let ready = venv.join("ready");
    if ready.is_file() {
        return Ok(python);
    }
    let place = venv.display();
    eprintln!("    installing the peer into `{place}`: {}", packages.join(", "));
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv)).await?;
    let mut pip = Command::new(&python);
    run(pip
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(packages))
    .await?;
    std::fs::write(&ready, "").context("cannot mark the peer as installed")?;
    Ok(python)
}

/// A port that nobody listens at.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr().context("no free port")?.port())
}

/// Runs a command that must succeed, quietly.
pub async fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().await;
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
