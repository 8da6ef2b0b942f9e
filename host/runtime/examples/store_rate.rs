//! Measures the embedded store: units a second, the longest pauses, and how long reads take.
//!
//! `cargo run -p tidegate-runtime --example store_rate [SECONDS] [FOLDER]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use tidegate_runtime::event::Event;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Condition, Delivery, Enqueue, Order, Receipt, StateWrite, Store, Unit};

/// Tasks that commit at the same time, each with a queue of its own.
const COMMITTERS: usize = 256;
/// Keys of the table that is read.
const KEYS: usize = 100_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds = args
        .next()
        .map_or(Ok(10), |text| text.parse())
        .context("SECONDS is a number")?;
    let dir = args.next().map_or_else(
        || std::env::temp_dir().join(format!("store-rate-{}", std::process::id())),
        PathBuf::from,
    );
    let store = Arc::new(Embedded::open(&dir)?);
    commits(&store, Duration::from_secs(seconds)).await?;
    reads(&*store).await?;
    let started = Instant::now();
    drop(store);
    println!("close: {:.0?}", started.elapsed());
    let started = Instant::now();
    drop(Embedded::open(&dir)?);
    println!("open: {:.0?}", started.elapsed());
    std::fs::remove_dir_all(&dir).context("the folder is not removed")
}

/// Units of one settle, one done marker, two values and one enqueue, from many tasks at once.
async fn commits(store: &Arc<Embedded>, time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..COMMITTERS)
        .map(|task| tokio::spawn(steps(store.clone(), task, started + time)))
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let rate = took.len() as f64 / started.elapsed().as_secs_f64();
    println!(
        "units of 1 settle, 1 done marker, 2 values, 1 enqueue; {COMMITTERS} at a time: {rate:.0} units/s"
    );
    report("commit", took);
    Ok(())
}

async fn steps(store: Arc<Embedded>, task: usize, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let queue = format!("queue-{task}");
    store
        .commit(Unit {
            enqueue: vec![enqueue(&queue, task, 0)],
            ..Unit::default()
        })
        .await?;
    let mut took = Vec::new();
    let mut step = 0;
    while Instant::now() < until {
        step += 1;
        let deliveries = store.claim(&queue, 1, Duration::from_secs(1)).await?;
        let [Delivery { receipt, event, .. }] = deliveries.as_slice() else {
            anyhow::bail!("no event")
        };
        let unit = unit(receipt.clone(), event, &queue, task, step);
        let started = Instant::now();
        store.commit(unit).await?;
        took.push(started.elapsed());
    }
    Ok(took)
}

fn unit(receipt: Receipt, event: &Event, queue: &str, task: usize, step: u64) -> Unit {
    let marker = put(
        "$done",
        format!("{queue}/{}", event.id),
        Bytes::from_static(&[0; 8]),
    );
    let value = |n: u64| {
        put(
            "values",
            format!("{task}/{}", (step + n) % 1000),
            vec![n as u8; 200].into(),
        )
    };
    Unit {
        settle: vec![receipt],
        state: vec![
            StateWrite {
                condition: Condition::Absent,
                ..marker
            },
            value(0),
            value(500),
        ],
        enqueue: vec![enqueue(queue, task, step)],
        ..Unit::default()
    }
}

fn put(table: &str, key: String, value: Bytes) -> StateWrite {
    StateWrite {
        table: table.into(),
        key,
        value: Some(value),
        condition: Condition::None,
    }
}

fn enqueue(queue: &str, task: usize, step: u64) -> Enqueue {
    let event = Event {
        id: format!("{task:04}-{step:012}"),
        source: "/store-rate".into(),
        kind: "Measured".into(),
        subject: None,
        time: 0,
        content_type: Some("application/json".into()),
        data: Bytes::from_static(&[b'x'; 100]),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        run: format!("{task:04}"),
        parent: None,
        part_of: None,
    };
    Enqueue {
        queue: queue.into(),
        group: None,
        event: Arc::new(event),
        not_before: None,
        attempt: 1,
    }
}

/// Reads of 100 values of 200 bytes, and pages of 100.
async fn reads(store: &dyn Store) -> anyhow::Result<()> {
    let key = |n: usize| format!("user/{:08}", n * 7919 % KEYS);
    for first in (0..KEYS).step_by(1000) {
        let state = (first..first + 1000)
            .map(|n| put("features", key(n), vec![n as u8; 200].into()))
            .collect();
        store
            .commit(Unit {
                state,
                ..Unit::default()
            })
            .await?;
    }
    let (mut many, mut pages) = (Vec::new(), Vec::new());
    for round in 0..5000 {
        let keys: Vec<String> = (0..100).map(|n| key(round * 101 + n * 997)).collect();
        let started = Instant::now();
        let found = store.get_many("features", &keys).await?;
        many.push(started.elapsed());
        ensure!(found.iter().all(Option::is_some), "a key is missing");
        let started = Instant::now();
        let page = store
            .query("features", &keys[0][..9], None, 100, Order::Ascending)
            .await?;
        pages.push(started.elapsed());
        ensure!(page.entries.len() == 100, "a short page");
    }
    report("get_many of 100 values of 200 bytes", many);
    report("query of 100 values of 200 bytes", pages);
    Ok(())
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |share: f64| {
        took.get(((took.len() - 1) as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{what}: p50 {:.0?}, p99 {:.0?}, p99.9 {:.0?}, longest {:.0?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
