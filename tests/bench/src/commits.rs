//! Durable steps: how many events a second are handled from queue to commit, beside Restate's completions and
//! beside what the database under the embedded store commits when nothing else is done.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde_json::{Value, json};
use tidegate_harness::Host;

use crate::load::Load;
use crate::restate::Restate;
use crate::stage;
use crate::table::{Table, duration, percentile, whole};

const CALLS: usize = 10_000;
const CONNECTIONS: usize = 64;
const QUEUED: u64 = 60_000;
/// Events that one flooding step emits.
const WAVE: u64 = 1000;
const LIMIT: Duration = Duration::from_secs(300);
const AIM: f64 = 20_000.0;
const HALF_LOAD: Duration = Duration::from_secs(5);
const LIMIT_MS: f64 = 20.0;

fn manifest() -> String {
    let reused = |name, on, emits: &str| stage::step(name, on, &[emits], stage::WIDE_AND_REUSED);
    stage::app([
        stage::step("flood", "Flood", &["Fresh", "Reused", "Batched"], ""),
        stage::step("noop", "Fresh", &["Never"], stage::WIDE),
        reused("reused", "Reused", "Never"),
        reused("first", "First", "Second"),
        reused("second", "Second", "Third"),
        reused("third", "Third", "Never"),
        BATCHED.to_owned(),
    ])
}

/// A function that takes events together; each commits with its own marker, run and record.
const BATCHED: &str = r#"
[[function]]
name = "batched"
component = "tidegate_guests_batch.wasm"
trigger = [{ event = "Batched" }]
batch = { size = 100 }
grants.state.read = ["bench"]
grants.state.write = ["bench"]
grants.events.emit = ["Never"]
reuse = {}
"#;

/// Measures it.
pub async fn measure(cache: &Path, table: &mut Table) -> Result<()> {
    let (host, folder) = stage::host_with(&manifest()).await?;
    let peer = Restate::start(cache).await?;
    let chain = json!({ "do": "pass", "to": ["Second", "Third"] });
    // Of Restate's services, which is called, and which completes the last.
    for (what, kind, data, last, services) in [
        (
            "one-step events by HTTP, run and committed, reused instances",
            "Reused",
            stage::nothing(),
            "reused",
            ("noop", "noop"),
        ),
        (
            "pipelines of three steps by HTTP, the same",
            "First",
            chain,
            "third",
            ("first", "third"),
        ),
    ] {
        let ours = by_http(&host, kind, data, last).await?;
        let (called, completed) = services;
        let theirs = peer.completions(called, completed, CALLS, CONNECTIONS).await?;
        let said = |rate| format!("{} a second", whole(rate));
        table.beside(
            what,
            (ours, said(ours)),
            (theirs, format!("Restate 1.7 {}", said(theirs))),
            1.0,
        );
    }
    drop(peer);
    let (bare, sync) = bare(folder.path())?;
    for (kind, function, instances) in [
        ("Fresh", "noop", "fresh instances"),
        ("Reused", "reused", "reused instances"),
        ("Batched", "batched", "up to 100 in a batch"),
    ] {
        let rate = drained(&host, kind, function).await?;
        let what = format!("queued one-step events, run and committed, {instances}");
        let beside = format!("fjall alone, groups of 256: {} a second", whole(bare));
        table.beside(
            &what,
            (rate, format!("{} a second", whole(rate))),
            (bare, beside),
            0.5,
        );
        table.over(&what, rate, AIM, "a second");
        if function == "reused" {
            half_load(&host, rate / 2.0, sync, table).await?;
        }
    }
    Ok(())
}

async fn by_http(host: &Host, kind: &str, data: Value, last: &str) -> Result<f64> {
    let load = load(host, kind, &data, CONNECTIONS);
    let before = stage::handled(host, last).await?;
    let started = Instant::now();
    load.run_times(CALLS).await?;
    let sent = (CALLS.div_ceil(CONNECTIONS) * CONNECTIONS) as u64;
    stage::until_handled(host, last, before + sent, LIMIT).await?;
    Ok(sent as f64 / started.elapsed().as_secs_f64())
}

fn load(host: &Host, kind: &str, data: &Value, connections: usize) -> Load {
    Load {
        address: host.api.base().trim_start_matches("http://").to_owned(),
        path: "/api/v1/events".to_owned(),
        headers: Vec::new(),
        bodies: vec![Bytes::from(json!({ "type": kind, "data": data }).to_string())],
        connections,
    }
}

/// Events that steps emitted, so that no request is part of what is measured.
async fn drained(host: &Host, kind: &str, function: &str) -> Result<f64> {
    let before = stage::handled(host, function).await?;
    let flood = json!({ "do": "flood", "kind": kind, "count": WAVE });
    let started = Instant::now();
    for _ in 0..QUEUED / WAVE {
        host.api.event("Flood", flood.clone()).await?;
    }
    stage::until_handled(host, function, before + QUEUED, LIMIT).await?;
    Ok(QUEUED as f64 / started.elapsed().as_secs_f64())
}

/// From an event's entry to its step's commit, with half as many events a second as can be handled; beside it what the
/// database alone took for a synced group, two of which are in it.
async fn half_load(host: &Host, rate: f64, sync: f64, table: &mut Table) -> Result<()> {
    // In small waves: what a generator on the same two cores asks by HTTP would be most of the load.
    const SMALL: u64 = 20;
    let flood = json!({ "do": "flood", "kind": "Reused", "count": SMALL });
    let mut notices = host.api.follow().await?;
    let waves = (rate * HALF_LOAD.as_secs_f64() / SMALL as f64) as u64;
    let mut pace = tokio::time::interval(Duration::from_secs_f64(SMALL as f64 / rate));
    let api = host.api.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..waves {
            pace.tick().await;
            api.event("Flood", flood.clone()).await?;
        }
        anyhow::Ok(())
    });
    let mut entered = std::collections::HashMap::new();
    let mut took = Vec::new();
    while (took.len() as u64) < waves * SMALL * 9 / 10 {
        let told = notices
            .wait_for("a step's commit", LIMIT, |notice| {
                let handled = notice.kind == "done" && notice.function.as_deref() == Some("reused");
                handled || (notice.kind == "event" && notice.event_type == "Reused")
            })
            .await?;
        if told.kind == "event" {
            entered.insert(told.event, told.at);
        } else if let Some(since) = entered.remove(&told.event) {
            took.push(told.at.saturating_sub(since) as f64);
        }
    }
    sending.await.context("the sender's task ended")??;
    let middle = percentile(&mut took, 0.5);
    table.under(
        "at half that load, event's entry to its step's commit, p99",
        percentile(&mut took, 0.99),
        LIMIT_MS,
        &format!(
            " (p50 {}; fjall alone, a group of 256: p99 {})",
            duration(middle),
            duration(sync)
        ),
    );
    Ok(())
}

/// How many units a second the database commits, 256 together in one synced batch: of each the rows of one step. And the
/// 99th percentile of a batch, in milliseconds.
fn bare(folder: &Path) -> Result<(f64, f64)> {
    const GROUP: u64 = 256;
    const TIME: Duration = Duration::from_secs(4);
    // With one thread that merges, as our own store has it on two cores.
    let database = Database::builder(folder.join("bare"))
        .worker_threads(1)
        .open()
        .context("cannot open fjall")?;
    let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default);
    let (queue, state) = (keyspace("queue")?, keyspace("state")?);
    let (mut units, mut took, started) = (0_u64, Vec::new(), Instant::now());
    while started.elapsed() < TIME {
        let begun = Instant::now();
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        for unit in units..units + GROUP {
            step(&mut batch, &queue, &state, unit);
        }
        batch.commit().context("fjall does not commit")?;
        units += GROUP;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let rate = units as f64 / started.elapsed().as_secs_f64();
    Ok((rate, percentile(&mut took, 0.99)))
}

/// The rows of a step that does nothing, in sizes that are about right and were not measured: its event enters, and
/// leaves; the event itself, a marker, the head of its run, and the record of the step are kept.
fn step(batch: &mut fjall::OwnedWriteBatch, queue: &Keyspace, state: &Keyspace, unit: u64) {
    let place = unit.to_be_bytes();
    let key = |name: &str| [name.as_bytes(), &[0], &place, &[0; 26]].concat();
    batch.insert(queue, key("reused@1"), [1; 350]);
    batch.remove(queue, key("reused@1"));
    batch.insert(state, key("$done"), [2; 17]);
    batch.insert(state, key("$events"), [5; 350]);
    batch.insert(state, key("$runs"), [3; 200]);
    batch.insert(state, key("$steps"), [4; 350]);
}
