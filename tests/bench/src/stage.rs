//! A host with functions that do next to nothing, so that only the platform's own cost is seen.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_harness::{Host, Options, until};

const MANIFEST: &str = r#"
[app]
name = "bench"

[[function]]
name = "noop"
component = "tidegate_guests.wasm"
trigger = [{ event = "Bench" }]
grants.objects.read = ["bench/"]
grants.state.read = ["bench"]
grants.events.emit = ["Never"]
limits = { concurrency = 64 }
"#;

/// What an event carries that asks for nothing.
pub fn nothing() -> Value {
    json!({ "do": "nothing" })
}

/// A host with the function `noop`, and the folder that holds its manifest.
pub async fn host() -> Result<(Host, TempDir)> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let manifest = folder.path().join("tidegate.toml");
    std::fs::write(&manifest, MANIFEST).with_context(|| format!("cannot write `{}`", manifest.display()))?;
    let env = vec![("RUST_LOG".to_owned(), "warn".to_owned())];
    let host = Host::start(Options {
        manifest: Some(manifest),
        env,
        ..Options::default()
    })
    .await?;
    Ok((host, folder))
}

/// How many events `function` has handled, by the host's own count.
pub async fn handled(host: &Host, function: &str) -> Result<u64> {
    let metrics = host.api.get_text("/metrics").await?;
    let named = format!("messaging_destination_name=\"{function}\"");
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("messaging_client_consumed_messages_total{") && line.contains(&named));
    Ok(counted
        .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .unwrap_or_default() as u64)
}

/// Waits until `function` has handled `count` events.
pub async fn until_handled(host: &Host, function: &str, count: u64, limit: Duration) -> Result<()> {
    until("the events' handling", limit, async || {
        Ok((handled(host, function).await? >= count).then_some(()))
    })
    .await
}
