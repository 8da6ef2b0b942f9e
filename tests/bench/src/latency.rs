//! From an event sent to an idle host until its step has begun, seen from outside.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::stage;
use crate::table::{Table, duration, percentile};

const EVENTS: usize = 300;
const PAUSE: Duration = Duration::from_millis(10);
const LIMIT_MS: f64 = 5.0;

/// Measures it: the request's way in, the synced commit, the claim, and the notice's way out.
pub async fn measure(table: &mut Table) -> Result<()> {
    let (host, _folder) = stage::host().await?;
    let mut notices = host.api.follow().await?;
    let mut took = Vec::with_capacity(EVENTS);
    for _ in 0..EVENTS {
        tokio::time::sleep(PAUSE).await;
        let sent = Instant::now();
        let sending = host.api.event("Bench", stage::nothing());
        let limit = Duration::from_secs(30);
        let starting = notices.wait_for("a step's start", limit, |notice| notice.kind == "started");
        let (sent_well, started) = tokio::join!(sending, async { (starting.await, sent.elapsed()) });
        sent_well?;
        started.0?;
        took.push(started.1.as_secs_f64() * 1e3);
        notices
            .wait_for("a step's end", limit, |notice| notice.kind == "done")
            .await?;
    }
    let (middle, high) = (percentile(&mut took, 0.5), percentile(&mut took, 0.99));
    table.under(
        "idle host, event sent to step begun, p50",
        middle,
        LIMIT_MS,
        &format!(" (p99 {})", duration(high)),
    );
    Ok(())
}
