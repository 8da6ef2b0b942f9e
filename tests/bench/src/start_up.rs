//! From nothing to a fresh instance that is ready for its first instruction, and to the guest's return.

use std::time::Duration;

use anyhow::Result;
use tidegate_harness::Host;

use crate::stage;
use crate::table::{Table, duration, percentile};

const EVENTS: usize = 500;
const LIMIT_MS: f64 = 0.05;
/// Restarts whose first calls are measured.
const RESTARTS: usize = 5;
const FIRST_CALL_LIMIT_MS: f64 = 5.0;

/// Measures it: what the host itself says of invocations, one after another on an otherwise idle host.
pub async fn measure(table: &mut Table) -> Result<()> {
    let (mut host, _folder) = stage::host().await?;
    let mut notices = host.api.follow().await?;
    let (mut starts, mut took) = (Vec::with_capacity(EVENTS), Vec::with_capacity(EVENTS));
    for _ in 0..EVENTS {
        host.api.event("Bench", stage::nothing()).await?;
        let done = notices
            .wait_for("a step's end", Duration::from_secs(30), |notice| {
                notice.kind == "done"
            })
            .await?;
        took.extend(done.duration_ms);
        starts.extend(done.usage.map(|usage| usage.start_ms));
    }
    let (middle, high) = (percentile(&mut starts, 0.5), percentile(&mut starts, 0.99));
    let more = format!(" (p99 {})", duration(high));
    table.under(
        "fresh instance, start to its first instruction, p50",
        middle,
        LIMIT_MS,
        &more,
    );
    table.plain(
        "the same, to the guest's return, p50",
        duration(percentile(&mut took, 0.5)),
        String::new(),
    );
    first_calls(&mut host, table).await
}

/// The first call after a restart, of a component whose machine code is kept.
async fn first_calls(host: &mut Host, table: &mut Table) -> Result<()> {
    let mut took = Vec::with_capacity(RESTARTS);
    for _ in 0..RESTARTS {
        host.kill().await?;
        host.restart().await?;
        let mut notices = host.api.follow().await?;
        host.api.event("Bench", stage::nothing()).await?;
        let done = notices
            .wait_for("the first call's end", Duration::from_secs(30), |notice| {
                notice.kind == "done"
            })
            .await?;
        took.extend(done.duration_ms);
    }
    let middle = percentile(&mut took, 0.5);
    table.under(
        "first call of a cached component after a restart, p50",
        middle,
        FIRST_CALL_LIMIT_MS,
        "",
    );
    Ok(())
}
