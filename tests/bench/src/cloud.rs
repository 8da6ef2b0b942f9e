//! Hosts that share a store on DynamoDB Local, SeaweedFS and moto: what a commit takes, how many events hosts handle, and
//! which calls of the services an event costs. The servers are no cloud and share this machine's cores: the calls
//! travel, the times do not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::Servers;
use tidegate_harness::{Host, Options, until};
use tidegate_runtime::store::{Condition, StateWrite, Store, Unit};

use crate::stage;
use crate::table::{Table, duration, percentile, whole};

/// Rows of the units that are committed: more than 99 take more than one transaction.
const SIZES: [usize; 4] = [1, 10, 99, 500];
const COMMITS: usize = 40;
const HOSTS: usize = 3;
const EVENTS: u64 = 3000;
/// Events that one step emits.
const WAVE: u64 = 90;
/// Events that wait at most: what stands in for SQS looks at every message of a queue for each call.
const WINDOW: u64 = 4 * WAVE;
/// Between two looks at what was handled: to look costs calls of its own.
const LOOK: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(600);
const VISIBILITY: Duration = Duration::from_secs(60);
/// Calls that an event is to take at most.
const AIMS: [(&str, f64); 4] = [
    ("TransactWriteItems", 1.0),
    ("SendMessageBatch", 0.1),
    ("ReceiveMessage", 0.1),
    ("DeleteMessageBatch", 0.1),
];

/// Measures it.
pub async fn measure(table: &mut Table) -> Result<()> {
    let servers = Servers::start().await?;
    commits(&servers, table).await?;
    for hosts in 1..=HOSTS {
        let fleet = Fleet::start(&servers, hosts).await?;
        let (rate, calls) = fleet.drain().await?;
        let what = format!("{hosts} hosts on one cloud store, one-step events run and committed");
        table.plain(&what, format!("{} a second", whole(rate)), String::new());
        if hosts == 1 {
            tell_calls(&calls, table);
        }
    }
    Ok(())
}

async fn commits(servers: &Servers, table: &mut Table) -> Result<()> {
    let store = Cloud::open(servers.settings("commits")).await?;
    for size in SIZES {
        let mut took = Vec::with_capacity(COMMITS);
        for nth in 0..COMMITS {
            let unit = Unit {
                state: (0..size).map(|row| write(nth, row)).collect(),
                ..Unit::default()
            };
            let started = Instant::now();
            store.commit(unit).await?;
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let (middle, high) = (percentile(&mut took, 0.5), percentile(&mut took, 0.99));
        let ours = format!("{} (p99 {})", duration(middle), duration(high));
        let what = format!("commit of {size} rows of 100 bytes to the cloud store, p50");
        table.plain(&what, ours, String::new());
    }
    Ok(())
}

fn write(commit: usize, row: usize) -> StateWrite {
    StateWrite {
        table: "t".into(),
        key: format!("{commit}/{row}"),
        value: Some(vec![b'x'; 100].into()),
        condition: Condition::None,
    }
}

/// Hosts on a store of their own.
struct Fleet {
    hosts: Vec<Host>,
    _folder: TempDir,
}

impl Fleet {
    async fn start(servers: &Servers, count: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidegate-bench-").tempdir()?;
        let file = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
            Ok(path)
        };
        let config = file(
            "config.toml",
            &servers.config(&format!("bench{count}"), VISIBILITY),
        )?;
        let app = stage::app([
            stage::step("flood", "Flood", &["Queued"], ""),
            stage::step("drain", "Queued", &["Never"], stage::WIDE_AND_REUSED),
        ]);
        let app = file("tidegate.toml", &app)?;
        let mut hosts = Vec::new();
        for _ in 0..count {
            let host = Host::start(Options {
                manifest: Some(app.clone()).filter(|_| hosts.is_empty()),
                env: vec![
                    ("TIDEGATE_CONFIG".into(), config.display().to_string()),
                    ("RUST_LOG".into(), "warn".into()),
                ],
                ..Options::default()
            });
            hosts.push(host.await?);
        }
        let fleet = Self {
            hosts,
            _folder: folder,
        };
        fleet.follows().await?;
        Ok(fleet)
    }

    /// Waits until every host runs the app.
    async fn follows(&self) -> Result<()> {
        for host in &self.hosts {
            until("a host that runs the app", LIMIT, async || {
                let functions = host.api.get("/api/v1/functions").await?;
                Ok(functions.to_string().contains("drain").then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Has events emitted and handled: how many a second, and the calls for each.
    async fn drain(&self) -> Result<(f64, BTreeMap<String, f64>)> {
        let before = self.calls().await?;
        let started = Instant::now();
        let first = self.hosts.first().context("no host")?;
        let flood = json!({ "do": "flood", "kind": "Queued", "count": WAVE });
        let mut sent = 0;
        while sent < EVENTS {
            first.api.event("Flood", flood.clone()).await?;
            sent += WAVE;
            self.until_handled(sent.saturating_sub(WINDOW)).await?;
        }
        self.until_handled(sent).await?;
        let seconds = started.elapsed().as_secs_f64();
        let mut calls = self.calls().await?;
        for (call, count) in &mut calls {
            *count = (*count - before.get(call).copied().unwrap_or_default()) / sent as f64;
        }
        Ok((sent as f64 / seconds, calls))
    }

    /// Waits until the hosts have handled so many events together.
    async fn until_handled(&self, count: u64) -> Result<()> {
        until("the events' handling", LIMIT, async || {
            let mut handled = 0;
            for host in &self.hosts {
                handled += stage::handled(host, "drain").await?;
            }
            if handled >= count {
                return Ok(Some(()));
            }
            tokio::time::sleep(LOOK).await;
            Ok(None)
        })
        .await
    }

    /// Calls of all hosts, by operation.
    async fn calls(&self) -> Result<BTreeMap<String, f64>> {
        let mut calls = BTreeMap::new();
        for host in &self.hosts {
            let metrics = host.api.get_text("/metrics").await?;
            let counted = metrics
                .lines()
                .filter_map(|line| line.strip_prefix("tidegate_cloud_calls_total{"));
            for line in counted {
                let method = line
                    .split("rpc_method=\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next());
                let count = line
                    .rsplit(' ')
                    .next()
                    .and_then(|count| count.parse::<f64>().ok());
                let (method, count) = method.zip(count).context("a counter of another form")?;
                *calls.entry(method.to_owned()).or_default() += count;
            }
        }
        Ok(calls)
    }
}

fn tell_calls(calls: &BTreeMap<String, f64>, table: &mut Table) {
    for (call, count) in calls {
        let what = format!("calls of {call} for an event, one host");
        match AIMS.iter().find(|(of, _)| of == call) {
            Some((_, aim)) => table.at_most(&what, *count, *aim),
            None => table.plain(&what, format!("{count:.3}"), String::new()),
        }
    }
}
