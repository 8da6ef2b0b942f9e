//! From nothing to a fresh instance that has handled an event: an upper bound of its first instruction.

use std::time::Duration;

use anyhow::Result;

use crate::stage;
use crate::table::{Table, duration, percentile};

const EVENTS: usize = 500;
const LIMIT_MS: f64 = 0.05;

/// Measures it: what the host itself says an invocation took, instantiation to the guest's return.
pub async fn measure(table: &mut Table) -> Result<()> {
    let (host, _folder) = stage::host().await?;
    let mut notices = host.api.follow().await?;
    let mut took = Vec::with_capacity(EVENTS);
    for _ in 0..EVENTS {
        host.api.event("Bench", stage::nothing()).await?;
        let done = notices
            .wait_for("a step's end", Duration::from_secs(30), |notice| {
                notice.kind == "done"
            })
            .await?;
        took.extend(done.duration_ms);
    }
    let (middle, high) = (percentile(&mut took, 0.5), percentile(&mut took, 0.99));
    let more = format!(" (p99 {})", duration(high));
    table.under(
        "fresh instance, start to the guest's return, p50",
        middle,
        LIMIT_MS,
        &more,
    );
    Ok(())
}
