//! A backlog of a million events: whether memory and the cost of an event stay flat while it drains.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::stage;
use crate::table::{Table, whole};

const EVENTS: u64 = 1_000_000;
const WAVE: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(1800);

const LARGE: &str = "limits = { effects_count = 20000, host_calls = 1000000 }";

/// Measures it: steps emit the events faster than they are handled, then the queue drains.
pub async fn measure(table: &mut Table) -> Result<()> {
    let app = stage::app([
        stage::step("flood", "Flood", &["Queued"], LARGE),
        stage::step("drain", "Queued", &["Never"], stage::WIDE_AND_REUSED),
    ]);
    let (host, _folder) = stage::host_with(&app).await?;
    let flood = json!({ "do": "flood", "kind": "Queued", "count": WAVE });
    let before = stage::resident(host.pid())?;
    for _ in 0..EVENTS / WAVE {
        host.api.event("Flood", flood.clone()).await?;
    }
    stage::until_handled(&host, "flood", EVENTS / WAVE, LIMIT).await?;
    let queued = EVENTS - stage::handled(&host, "drain").await?;
    let full = stage::resident(host.pid())?;
    let (mut rates, mut highest) = (Vec::new(), full);
    for tenth in 1..=10 {
        let (from, started) = (stage::handled(&host, "drain").await?, Instant::now());
        let until = EVENTS - queued + queued * tenth / 10;
        stage::until_handled(&host, "drain", until, LIMIT).await?;
        let handled = stage::handled(&host, "drain").await? - from;
        rates.push(handled as f64 / started.elapsed().as_secs_f64());
        highest = highest.max(stage::resident(host.pid())?);
    }
    let (first, last) = rates.first().zip(rates.last()).context("nothing was measured")?;
    let said = |rate: &f64| format!("{} a second", whole(*rate));
    table.beside(
        &format!("{} queued events, drained: the last tenth", whole(queued as f64)),
        (*last, said(last)),
        (*first, format!("the first tenth {}", said(first))),
        0.9,
    );
    table.plain(
        "resident memory of the host while they drain, at most",
        format!("{} MB", whole(highest / 1e6)),
        format!(
            "{} MB before, {} MB when all were queued",
            whole(before / 1e6),
            whole(full / 1e6)
        ),
    );
    Ok(())
}
