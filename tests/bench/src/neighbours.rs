//! What a function's callers notice of a hostile guest that runs beside it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_harness::Host;

use crate::stage;
use crate::table::{Table, duration, percentile};

/// Requests of one window, evenly spread: a host that has time to spare for them.
const REQUESTS: usize = 1500;
const PACE: Duration = Duration::from_millis(4);

const MANIFEST: &str = r#"
[app]
name = "bench"

[[function]]
name = "hello"
component = "tidegate_plain_http.wasm"
trigger = [{ http = { route = "/hello" } }]

[[function]]
name = "hostile"
component = "tidegate_guests.wasm"
trigger = [{ event = "Hostile" }]
grants.objects.read = ["bench/"]
grants.state.read = ["bench", "counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
limits = { concurrency = 2, wall_time = "1s", memory = "256MiB", host_calls = 1000000000 }
retry = { max_attempts = 1000, initial = "1ms", max_backoff = "1ms" }
"#;

/// Measures it: alone, then beside each kind of hostile guest, two of which run all the time.
pub async fn measure(table: &mut Table) -> Result<()> {
    let alone = {
        let (host, _folder) = stage::host_with(MANIFEST).await?;
        window(&host).await?
    };
    for (what, deed) in [
        ("a busy loop", json!({ "do": "spin" })),
        ("memory that grows", json!({ "do": "grow" })),
        ("a flood of host calls", json!({ "do": "calls" })),
        ("a flood of logs", json!({ "do": "logs", "lines": 100_000_000 })),
        ("a recursion without end", json!({ "do": "recurse" })),
        ("an await that never ends", json!({ "do": "pending" })),
    ] {
        let beside = beside(deed).await.with_context(|| format!("beside {what}"))?;
        let name = format!("hello over HTTP, p99, beside {what}");
        // As rates, so that twice the time is half the rate.
        let said = |time: f64| (1.0 / time, duration(time));
        let (rate, alone) = said(alone);
        table.beside(&name, said(beside), (rate, format!("alone {alone}")), 0.5);
    }
    Ok(())
}

async fn beside(deed: Value) -> Result<f64> {
    let (host, _folder) = stage::host_with(MANIFEST).await?;
    for _ in 0..2 {
        host.api.event("Hostile", deed.clone()).await?;
    }
    let took = window(&host).await?;
    let failed = host.api.get_text("/metrics").await?;
    let hostile = |line: &&str| line.starts_with("faas_errors_total{") && line.contains("\"hostile\"");
    ensure!(
        failed.lines().any(|line| hostile(&line)),
        "no hostile guest was ended"
    );
    Ok(took)
}

/// The 99th percentile of requests at an even pace, in milliseconds.
async fn window(host: &Host) -> Result<f64> {
    let mut took = Vec::with_capacity(REQUESTS);
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for number in 0..REQUESTS + REQUESTS / 10 {
        pace.tick().await;
        let asked = Instant::now();
        host.api.get_text("/hello").await?;
        // The first ones warm up.
        if number >= REQUESTS / 10 {
            took.push(asked.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(percentile(&mut took, 0.99))
}
