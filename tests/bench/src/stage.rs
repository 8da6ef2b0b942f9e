//! A host with functions that do next to nothing, so that only the platform's own cost is seen.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_harness::{Host, Options, until};

/// What functions say that may run often at one time.
pub const WIDE: &str = "limits = { concurrency = 64 }";
/// The same, in instances that are used again.
pub const WIDE_AND_REUSED: &str = "limits = { concurrency = 64 }\nreuse = {}";

/// A function of the odd guests' component that takes events of one type, as a manifest has it; `more` follows.
pub fn step(name: &str, on: &str, emits: &[&str], more: &str) -> String {
    let emits = emits.join("\", \"");
    format!(
        r#"
[[function]]
name = "{name}"
component = "tidegate_guests.wasm"
trigger = [{{ event = "{on}" }}]
grants.objects.read = ["bench/"]
grants.state.read = ["bench"]
grants.events.emit = ["{emits}"]
{more}
"#
    )
}

/// The manifest of an app with these functions.
pub fn app(functions: impl IntoIterator<Item = String>) -> String {
    app_named("bench", functions)
}

/// The same, under a name of its own.
pub fn app_named(name: &str, functions: impl IntoIterator<Item = String>) -> String {
    let functions: String = functions.into_iter().collect();
    format!("[app]\nname = \"{name}\"\n{functions}")
}

/// What an event carries that asks for nothing.
pub fn nothing() -> Value {
    json!({ "do": "nothing" })
}

/// A host with the function `noop`, and the folder that holds its manifest.
pub async fn host() -> Result<(Host, TempDir)> {
    host_with(&app([step("noop", "Bench", &["Never"], WIDE)])).await
}

/// A host with a manifest of one's own, and the folder that holds it.
pub async fn host_with(manifest: &str) -> Result<(Host, TempDir)> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, manifest).with_context(|| format!("cannot write `{}`", file.display()))?;
    let env = vec![("RUST_LOG".to_owned(), "warn".to_owned())];
    let host = Host::start(Options {
        manifest: Some(file),
        env,
        ..Options::default()
    })
    .await?;
    Ok((host, folder))
}

/// Bytes of a process' resident memory.
pub fn resident(pid: i32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).context("the host is gone")?;
    let pages: f64 = field(&text, 1)?;
    Ok(pages * rustix::param::page_size() as f64)
}

/// Bytes of the resident memory of a process and of those that it started.
pub fn resident_of_all(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&path).with_context(|| format!("cannot read `{path}`"))?;
    let started = threads.flatten().map(|thread| thread.path().join("children"));
    let started: String = started
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect();
    let children = started.split_whitespace().filter_map(|child| child.parse().ok());
    let rest = children.map(resident_of_all).sum::<Result<f64>>()?;
    Ok(resident(pid)? + rest)
}

/// CPU time that a process has taken.
pub fn cpu(pid: i32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the host is gone")?;
    // `pid (name) state ...`, and the name may hold anything.
    let rest = text.rsplit_once(')').context("no state of the host")?.1;
    let ticks = field(rest, 11)? + field(rest, 12)?;
    Ok(Duration::from_secs_f64(
        ticks / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn field(text: &str, place: usize) -> Result<f64> {
    let field = text.split_whitespace().nth(place).context("a short line")?;
    field.parse().context("no number")
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
