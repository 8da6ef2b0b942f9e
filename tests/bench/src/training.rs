//! Training of two towers beside PyTorch: the same device, data, batch and epochs, by a script that other machines can run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use tidegate_harness::{Host, Install, Manifest, Options, until, workspace_root};
use tokio::process::Command;

use crate::Args;
use crate::peer::install;
use crate::table::{Table, whole};

/// What the script needs; PyTorch is some 3 GB with what it brings for CUDA.
const PACKAGES: [&str; 4] = ["torch", "numpy", "pyarrow", "onnxruntime"];
const SCRIPT: &str = "tests/bench/peer/training.py";
const FILES: [&str; 4] = [
    "dataset.json",
    "train.parquet",
    "validation.parquet",
    "test.parquet",
];
/// A data set that the app makes, and how often it is gone through.
struct Size {
    what: &'static str,
    folder: &'static str,
    times: u64,
    epochs: u64,
}

/// That of the demo, and one with tables of four times as many rows: the dense optimiser's work grows with those.
const SIZES: [Size; 2] = [
    Size {
        what: "10,000 users and 50,000 items",
        folder: "bench-training",
        times: 1,
        epochs: 4,
    },
    Size {
        what: "40,000 users and 200,000 items",
        folder: "bench-training-4",
        times: 4,
        epochs: 2,
    },
];
const USERS: u64 = 10_000;
const ITEMS: u64 = 50_000;
const INTERACTIONS: u64 = 200_000;

/// What training one way took.
#[derive(Debug, Deserialize)]
struct Trained {
    name: String,
    rate: f64,
    auc: f64,
}

impl Trained {
    fn say(&self) -> String {
        format!("{} samples/s, test AUC {:.4}", whole(self.rate), self.auc)
    }
}

/// Measures it.
pub async fn measure(args: &Args, table: &mut Table) -> Result<()> {
    let python = install(&args.cache, "torch-venv", &PACKAGES).await?;
    for size in &SIZES {
        let data = data_set(args, size).await?;
        eprintln!(
            "    PyTorch and this data set are kept; on another machine: {SCRIPT} --data {}",
            data.display()
        );
        compare(args, table, &python, &data, size).await?;
    }
    Ok(())
}

async fn compare(args: &Args, table: &mut Table, python: &Path, data: &Path, size: &Size) -> Result<()> {
    let worker = Install::find()?.tidegate.with_file_name("tidegate-worker");
    let output = Command::new(python)
        .arg(workspace_root().join(SCRIPT))
        .args([
            "--json",
            "--device",
            &args.device,
            "--epochs",
            &size.epochs.to_string(),
            "--worker",
        ])
        .arg(worker)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("no Python")?;
    ensure!(output.status.success(), "{SCRIPT} ended with {}", output.status);
    let trained: Vec<Trained> =
        serde_json::from_slice(&output.stdout).context("the script tells something else")?;
    let (ours, peers) = trained.split_first().context("the script tells nothing")?;
    let times = if args.device == "cpu" { 3.0 } else { 1.0 };
    let what = format!("two towers of {}, trained on {}", size.what, args.device);
    let said = |peer: &Trained| format!("{} {}", peer.name, peer.say());
    // The aim is of the optimiser that PyTorch's users take; the sparse one is told beside it.
    let (dense, others) = peers.split_first().context("the script tells of no peer")?;
    table.beside(&what, (ours.rate, ours.say()), (dense.rate, said(dense)), times);
    for peer in others {
        table.plain(&what, ours.say(), said(peer));
    }
    Ok(())
}

/// The folder of the training set that the app makes of generated interactions.
async fn data_set(args: &Args, size: &Size) -> Result<PathBuf> {
    let folder = args.cache.join(size.folder);
    if FILES.iter().all(|name| folder.join(name).is_file()) {
        return Ok(folder);
    }
    let [users, items, interactions] = [USERS, ITEMS, INTERACTIONS].map(|count| count * size.times);
    eprintln!("    making a data set of {interactions} interactions");
    let scratch = tempfile::Builder::new().prefix("tidegate-bench-").tempdir();
    let scratch = scratch.context("no temporary folder")?;
    let config = scratch.path().join("host.toml");
    std::fs::write(&config, "[worker]\nstart = false\n").context("cannot write a configuration")?;
    let manifest = Manifest::read(&args.manifest)?.write(&scratch.path().join("tidegate.toml"))?;
    let host = Host::start(Options {
        manifest: Some(manifest),
        data_dir: Some(scratch.path().join("data")),
        env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
        ..Options::default()
    })
    .await?;
    let request =
        json!({ "users": users, "items": items, "interactions": interactions, "days": 30, "seed": 42 });
    host.api.event("GenerateRequested", request).await?;
    // The job that waits for a worker tells that the training set is there as a whole.
    let prefix = until("a training set", Duration::from_secs(900), async || {
        let jobs = host.api.get("/api/v1/jobs").await?;
        let prefix = jobs["jobs"][0]["config"]["dataset"]["prefix"].as_str();
        Ok(prefix.map(str::to_owned))
    })
    .await?;
    copy(&host, &prefix, &folder).await?;
    Ok(folder)
}

async fn copy(host: &Host, prefix: &str, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for name in FILES {
        let content = host.bucket("data").get(&format!("{prefix}{name}")).await?;
        std::fs::write(folder.join(name), content).context("cannot keep the data set")?;
    }
    Ok(())
}
