//! Ten thousand functions that wait for events: what they cost while nothing comes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tidegate_harness::Host;

use crate::stage;
use crate::table::{Table, duration, whole};

const FUNCTIONS: usize = 10_000;
/// A manifest of more would be larger than a manifest may be.
const FUNCTIONS_OF_AN_APP: usize = 1000;
/// Over which the idle host's CPU time is measured.
const REST: Duration = Duration::from_secs(5);

/// Measures it.
pub async fn measure(table: &mut Table) -> Result<()> {
    let (mut host, folder) = stage::host().await?;
    let none = stage::resident(host.pid())?;
    deploy(&host, &folder).await?;
    host.kill().await?;
    let started = Instant::now();
    host.restart().await?;
    let start = started.elapsed();
    let many = stage::resident(host.pid())?;
    let each = (many - none) / FUNCTIONS as f64;
    table.plain(
        &format!(
            "{} idle functions, resident memory of the host",
            whole(FUNCTIONS as f64)
        ),
        format!("{} MB, {:.1} kB a function", whole(many / 1e6), each / 1e3),
        format!("with one function {} MB", whole(none / 1e6)),
    );
    table.plain(
        "the same, from the start of the process until it is ready",
        duration(start.as_secs_f64() * 1e3),
        String::new(),
    );
    let before = stage::cpu(host.pid())?;
    tokio::time::sleep(REST).await;
    let spent = stage::cpu(host.pid())? - before;
    let share = 100.0 * spent.as_secs_f64() / REST.as_secs_f64();
    table.plain(
        "the same, share of one core while nothing comes",
        format!("{share:.1} %"),
        String::new(),
    );
    Ok(())
}

async fn deploy(host: &Host, folder: &TempDir) -> Result<()> {
    for app in 0..FUNCTIONS / FUNCTIONS_OF_AN_APP {
        let file = folder.path().join(format!("idle-{app}.toml"));
        std::fs::write(&file, manifest(app)).with_context(|| format!("cannot write `{}`", file.display()))?;
        host.api
            .post("/api/v1/deploy", &json!({ "manifest": file }))
            .await
            .context("an app of idle functions")?;
    }
    Ok(())
}

fn manifest(app: usize) -> String {
    let one = |number| {
        let (name, on) = (format!("idle-{app}-{number}"), format!("Idle{app}x{number}"));
        stage::step(&name, &on, &["Never"], "")
    };
    stage::app_named(&format!("idle-{app}"), (0..FUNCTIONS_OF_AN_APP).map(one))
}
