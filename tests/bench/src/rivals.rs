//! Servers of others for the same models, behind the same protocol, each on one core.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::peer::{free_port, install, run};

const APP: &str = include_str!("../peer/infer.py");
const RUNTIME: &str = include_str!("../peer/runtime.py");
const MLP: &str = include_str!("../peer/mlp.py");
/// Beside `onnx`, with which the small model is written.
const FAST_API: [&str; 7] = [
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "numpy",
    "onnxruntime",
    "onnx",
];
/// The networks that are written here, by the widths of their layers, from features to score.
const NETWORKS: [(&str, &[u16]); 2] = [("mlp", &[32, 64, 32, 1]), ("deep", &[512, 2048, 2048, 1024, 1])];
const ML_SERVER: [&str; 2] = ["mlserver>=1.7,<1.8", "onnxruntime"];

/// A server of others; it ends when it is dropped.
#[derive(Debug)]
pub struct Rival {
    /// Whose it is.
    pub name: &'static str,
    /// Where it listens.
    pub address: String,
    child: Child,
}

impl Rival {
    /// Its process.
    pub fn pid(&self) -> Result<i32> {
        let id = self.child.id().context("the peer has ended")?;
        Ok(id.cast_signed())
    }
}

/// Files of models, each in a folder of its name, and what serves them.
#[derive(Debug)]
pub struct Models {
    folder: PathBuf,
    cache: PathBuf,
    core: usize,
}

impl Models {
    /// The ranker, and the networks that are written here.
    pub async fn write(folder: &Path, cache: &Path, ranker: &[u8], core: usize) -> Result<Self> {
        let models = Self {
            folder: folder.to_path_buf(),
            cache: cache.to_path_buf(),
            core,
        };
        for (path, content) in [
            ("models/ranker/model.onnx", ranker),
            ("infer.py", APP.as_bytes()),
            ("runtime.py", RUNTIME.as_bytes()),
            ("mlp.py", MLP.as_bytes()),
        ] {
            models.put(path, content)?;
        }
        let python = models.python().await?;
        for (name, widths) in NETWORKS {
            models.put(&format!("models/{name}/model.onnx"), b"")?;
            let mut command = Command::new(&python);
            command.arg(folder.join("mlp.py")).arg(models.file(name));
            run(command.args(widths.iter().map(ToString::to_string))).await?;
        }
        Ok(models)
    }

    /// The file of a model.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("models/{name}/model.onnx"))
    }

    /// The Python of FastAPI, which has ONNX Runtime as well.
    pub async fn python(&self) -> Result<PathBuf> {
        install(&self.cache, "bench-inference-venv", &FAST_API).await
    }

    /// FastAPI and uvicorn, with uvloop and httptools.
    pub async fn fast_api(&self) -> Result<Rival> {
        let port = free_port()?.to_string();
        let mut command = self.pinned(&self.python().await?);
        command.args([
            "-m",
            "uvicorn",
            "infer:app",
            "--log-level",
            "warning",
            "--no-access-log",
        ]);
        command.args(["--loop", "uvloop", "--http", "httptools", "--port", &port]);
        command.env("MODELS", self.folder.join("models"));
        start("FastAPI", &port, command)
    }

    /// MLServer without worker processes; none, with a word about it, where it does not install.
    pub async fn ml_server(&self) -> Result<Option<Rival>> {
        let python = match install(&self.cache, "bench-mlserver-venv", &ML_SERVER).await {
            Ok(python) => python,
            Err(reason) => {
                eprintln!("    MLServer is left out, as it does not install: {reason:#}");
                return Ok(None);
            }
        };
        let [http, grpc, metrics] = [free_port()?, free_port()?, free_port()?];
        let settings = json!({
            "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0, "debug": false,
        });
        self.put("settings.json", settings.to_string().as_bytes())?;
        for name in NETWORKS.map(|(name, _)| name).into_iter().chain(["ranker"]) {
            let model = json!({
                "name": name, "implementation": "runtime.Onnx", "parameters": { "uri": "./model.onnx" },
            });
            let path = format!("models/{name}/model-settings.json");
            self.put(&path, model.to_string().as_bytes())?;
        }
        let mut command = self.pinned(&python);
        command.args(["-m", "mlserver.cli.main", "start", "."]);
        command.env("PYTHONPATH", &self.folder).stdout(Stdio::null());
        start("MLServer", &http.to_string(), command).map(Some)
    }

    fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let path = self.folder.join(path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = written.and_then(|()| std::fs::write(&path, content));
        written.with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn pinned(&self, python: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string()]).arg(python);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }
}

fn start(name: &'static str, port: &str, mut command: Command) -> Result<Rival> {
    let child = command.kill_on_drop(true).spawn();
    Ok(Rival {
        name,
        address: format!("127.0.0.1:{port}"),
        child: child.with_context(|| format!("cannot start {name}"))?,
    })
}
