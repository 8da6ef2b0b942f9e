//! How many events a second are taken in durably, and how many are handled from queue to commit.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use serde_json::json;

use crate::load::Load;
use crate::stage;
use crate::table::Table;

const EVENTS: usize = 40_000;
const CONNECTIONS: usize = 128;
const AIM: f64 = 5_000.0;

/// Measures it: `EVENTS` requests, each answered once its event is synced; then until the last step's commit.
pub async fn measure(table: &mut Table) -> Result<()> {
    let (host, _folder) = stage::host().await?;
    let load = Load {
        address: host.api.base().trim_start_matches("http://").to_owned(),
        path: "/api/v1/events".to_owned(),
        headers: Vec::new(),
        bodies: vec![Bytes::from(
            json!({ "type": "Bench", "data": stage::nothing() }).to_string(),
        )],
        connections: CONNECTIONS,
    };
    let started = Instant::now();
    let taken = load.run_times(EVENTS).await?;
    table.over(
        "durable events, each an HTTP request, taken in",
        taken.rate,
        AIM,
        "a second",
    );
    let sent = (EVENTS.div_ceil(CONNECTIONS) * CONNECTIONS) as u64;
    stage::until_handled(&host, "noop", sent, Duration::from_secs(300)).await?;
    let handled = sent as f64 / started.elapsed().as_secs_f64();
    table.over(
        "the same, taken in, run in a fresh sandbox and committed",
        handled,
        AIM,
        "a second",
    );
    Ok(())
}
