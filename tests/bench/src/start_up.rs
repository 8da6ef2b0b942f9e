//! From nothing to a fresh instance that is ready for its first instruction, and to the guest's return.

use std::time::Duration;

use anyhow::Result;

use crate::stage;
use crate::table::{Table, duration, percentile};

const EVENTS: usize = 500;
const LIMIT_MS: f64 = 0.05;

/// Measures it: what the host itself says of invocations, one after another on an otherwise idle host.
pub async fn measure(table: &mut Table) -> Result<()> {
    let (host, _folder) = stage::host().await?;
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
    Ok(())
}
