//! Models of their own, and clients of the field that ask for them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_harness::{Host, Options, until};
use tokio::process::Command;

use crate::Scene;

/// Writes to the registry what its event says.
const REGISTRAR: &str = r#"
[app]
name = "registrar"

[[function]]
name = "registrar"
component = "tidegate_guests.wasm"
trigger = [{ event = "Register" }]
grants.objects.read = ["data/nothing/"]
grants.state.read = ["nothing"]
grants.state.write = ["models"]
grants.events.emit = ["Nothing"]
"#;
const LIMIT: Duration = Duration::from_secs(60);

/// A host on which the models of `clients/models.py` are registered, as champions; `config` is more of its configuration.
pub async fn host_with_models(scene: &Scene, config: &str) -> Result<Host> {
    let folder = scene.path("onnx");
    std::fs::create_dir_all(&folder)?;
    run("models.py", &[&folder.display().to_string()]).await?;
    let config = scene.file("host.toml", config)?;
    let manifest = scene.file("registrar.toml", REGISTRAR)?;
    let host = Host::start(Options {
        env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
        ..scene.options(manifest)
    })
    .await?;
    for name in ["types", "sums"] {
        register(&host, name, 1, &folder.join(format!("{name}.onnx"))).await?;
    }
    Ok(host)
}

/// Registers a file as a version of a model, and as its champion.
pub async fn register(host: &Host, name: &str, version: u64, file: &Path) -> Result<()> {
    let (bytes, key) = (std::fs::read(file)?, format!("{name}/{version}.onnx"));
    let size = bytes.len();
    host.bucket("models").put(&key, bytes).await?;
    let record = json!({
        "model": name, "version": version, "created": 1, "metrics": {}, "parameters": {}, "code": {},
        "artifact": { "bucket": "models", "key": key, "sha256": "", "size": size },
        "dataset": { "id": "d", "bucket": "data", "prefix": "p/", "digest": "" },
        "signature": { "user_features": [], "item_features": [] },
        "decision": "promote", "reason": "", "origin": { "event": "", "trace": "", "job": "" },
    });
    put(host, &format!("{name}/versions/{version:012}"), record).await?;
    put(
        host,
        &format!("{name}/aliases/champion"),
        json!({ "version": version }),
    )
    .await?;
    until("a registered model", LIMIT, async || {
        let model = host.api.model(name).await?;
        Ok((model["aliases"]["champion"] == version).then_some(()))
    })
    .await
}

async fn put(host: &Host, key: &str, value: Value) -> Result<()> {
    let asked = json!({ "do": "state", "table": "models", "key": key, "value": value });
    host.api.event("Register", asked).await.map(drop)
}

/// Runs one of the programs in `clients/`, which ends in an error when it is not content.
pub async fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let packages = std::env::var_os("TIDEGATE_CLIENTS").map(PathBuf::from);
    let packages = packages.context("`TIDEGATE_CLIENTS` is not set; `cargo xtask test` sets it")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let running = Command::new("python3")
        .arg(folder.join(program))
        .args(arguments)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = running.await.context("no `python3`")?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {said}{complained}"
    );
    Ok(())
}
