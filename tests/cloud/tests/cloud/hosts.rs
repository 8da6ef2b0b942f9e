//! Hosts that share one store: nothing lost, nothing done twice, also when one of them is killed.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::Servers;
use tidegate_harness::{Host, Options, until};
use tidegate_runtime::store::{Order, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Long enough for hosts that share two cores with their cloud and a build.
const LIMIT: Duration = Duration::from_secs(240);
/// After this, what a killed host held goes to the others.
const VISIBILITY: Duration = Duration::from_secs(10);
/// How long hosts are killed at random, in seconds: in `TIDEGATE_KILLS` where somebody has more patience.
const KILLS: u64 = 20;
/// Events that are sent while one host is killed.
const WAVE: usize = 12;
/// Events that are counted, each under a key of its own.
const EVENTS: usize = 24;

const APP: &str = r#"
[app]
name = "shared"

[[function]]
name = "hello"
component = "hello.wasm"
trigger = [{ object = { bucket = "data", prefix = "hello/", suffix = ".txt" } }]
grants.objects.read = ["data/hello/"]
grants.state.write = ["hello"]
grants.events.emit = ["TextCounted"]

[[function]]
name = "hello-http"
component = "hello_http.wasm"
trigger = [{ http = { method = "GET", route = "/hello/{name}" } }]
grants.state.read = ["hello", "greeted"]
grants.state.write = ["greeted"]

[[function]]
name = "count"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
limits.concurrency = 2
"#;

/// Hosts on one store.
struct Shore {
    store: Cloud,
    servers: Servers,
    folder: TempDir,
}

impl Shore {
    async fn new() -> Result<Self> {
        let servers = Servers::start().await?;
        Ok(Self {
            store: Cloud::open(servers.settings("shore")).await?,
            folder: TempDir::new()?,
            servers,
        })
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a host; the first one brings the app.
    async fn host(&self, manifest: Option<PathBuf>) -> Result<Host> {
        self.host_with(manifest, "").await
    }

    /// The same with more in the configuration of its workers.
    async fn host_with(&self, manifest: Option<PathBuf>, more: &str) -> Result<Host> {
        let config = self.servers.config("shore", VISIBILITY);
        let config = self.file("config.toml", &format!("{config}{more}"))?;
        Host::start(Options {
            manifest,
            env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
            ..Options::default()
        })
        .await
    }

    /// What was counted, by key.
    async fn counted(&self) -> Result<Vec<(String, String)>> {
        let mut counted: Vec<(String, String)> = Vec::new();
        loop {
            let after = counted.last().map(|(key, _)| key.as_str());
            let page = self
                .store
                .query("counters", "", after, 1000, Order::Ascending)
                .await?;
            let shown = page
                .entries
                .into_iter()
                .map(|(key, found)| (key, String::from_utf8_lossy(&found.value).into_owned()));
            let before = counted.len();
            counted.extend(shown);
            if counted.len() == before {
                return Ok(counted);
            }
        }
    }
}

async fn answers(host: &Host, path: &str) -> Result<String> {
    until(path, LIMIT, async || {
        let (status, text) = host.api.get_raw(path).await?;
        Ok((status == 200).then_some(text))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_on_one_store_do_everything_once_though_one_is_killed() -> Result<()> {
    let shore = Shore::new().await?;
    let manifest = shore.file("tidegate.toml", APP)?;
    let mut first = shore.host(Some(manifest)).await?;
    let second = shore.host(None).await?;
    first
        .bucket("data")
        .put("hello/world.txt", "the tide is coming in")
        .await?;
    let counted = answers(&second, "/hello/world").await?;
    assert!(counted.contains("\"words\":5"), "{counted}");
    assert_eq!(
        second.bucket("data").get("hello/world.txt").await?,
        b"the tide is coming in"
    );
    for number in 0..EVENTS {
        let host = if number % 2 == 0 { &first } else { &second };
        host.api
            .event("Do", json!({ "do": "count", "key": format!("k{number:02}") }))
            .await?;
    }
    until("the first event is counted", LIMIT, async || {
        Ok((!shore.counted().await?.is_empty()).then_some(()))
    })
    .await?;
    first.kill().await?;
    let all = until("every event is counted", LIMIT, async || {
        Ok(Some(shore.counted().await?).filter(|all| all.len() == EVENTS))
    })
    .await
    .with_context(|| second.log_tail())?;
    until("every run is done", LIMIT, async || {
        let runs = second.api.runs().await?;
        Ok(runs.iter().all(|run| run.finished.is_some()).then_some(()))
    })
    .await?;
    assert!(all.iter().all(|(_, count)| count == "1"), "{all:?}");
    let letters = second.api.get("/api/v1/dlq").await?;
    assert_eq!(letters["letters"], json!([]), "{letters}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_turns_to_one_host_answers_the_others_as_well() -> Result<()> {
    let shore = Shore::new().await?;
    let config = "token = \"between hosts\"\n";
    let first = shore.host_with(None, config).await?;
    let second = shore.host_with(None, config).await?;
    for (name, address) in [("far", "192.0.2.7:8001"), ("beside the first", "127.0.0.1:8001")] {
        let body = json!({ "worker": name, "inference_addr": address }).to_string();
        let head = format!(
            "POST /worker/v1/register HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer between hosts\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(first.ready.gateway.trim_start_matches("http://")).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    for (host, count) in [(&first, 2), (&second, 1)] {
        until("workers that have joined", LIMIT, async || {
            let text = host.api.get_text("/metrics").await?;
            Ok(text
                .contains(&format!("\ntidegate_workers {count}\n"))
                .then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Sends a wave of events to all hosts, each under a key of its own; they tell whether their host took them.
fn send_wave(hosts: &[Host], wave: usize) -> JoinSet<(String, bool)> {
    let mut sending = JoinSet::new();
    for nth in 0..WAVE {
        let (api, key) = (
            hosts[nth % hosts.len()].api.clone(),
            format!("w{wave:03}-{nth:02}"),
        );
        sending.spawn(async move {
            let event = json!({ "do": "count", "key": key });
            let taken = api.event("Do", event).await.is_ok();
            (key, taken)
        });
    }
    sending
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_that_are_killed_at_random_lose_nothing_and_repeat_nothing() -> Result<()> {
    let seconds = std::env::var("TIDEGATE_KILLS").map_or(Ok(KILLS), |given| given.parse())?;
    let shore = Shore::new().await?;
    let manifest = shore.file("tidegate.toml", APP)?;
    let mut hosts = vec![shore.host(Some(manifest)).await?];
    for _ in 0..2 {
        hosts.push(shore.host(None).await?);
    }
    let (mut sent, started) = (BTreeMap::new(), Instant::now());
    for wave in 0.. {
        let chance = RandomState::new().hash_one(wave);
        let victim = (chance % hosts.len() as u64) as usize;
        let apart = Duration::from_millis(chance / 7 % 400);
        let wave = send_wave(&hosts, wave);
        tokio::time::sleep(apart).await;
        hosts[victim].kill().await?;
        sent.extend(wave.join_all().await);
        if started.elapsed().as_secs() >= seconds {
            break;
        }
        hosts[victim].restart().await?;
    }
    let left = hosts
        .iter_mut()
        .find_map(|host| host.is_running().then_some(&*host));
    let left = left.context("no host is left")?;
    let all = until("every event that was taken is counted", LIMIT, async || {
        let counted: BTreeMap<_, _> = shore.counted().await?.into_iter().collect();
        let mut taken = sent.iter().filter(|(_, taken)| **taken);
        Ok(taken.all(|(key, _)| counted.contains_key(key)).then_some(counted))
    })
    .await
    .with_context(|| left.log_tail())?;
    until("every run is done", LIMIT, async || {
        let runs = left.api.runs().await?;
        Ok(runs.iter().all(|run| run.finished.is_some()).then_some(()))
    })
    .await?;
    assert!(all.values().all(|count| count == "1"), "{all:?}");
    assert!(all.keys().all(|key| sent.contains_key(key)), "{all:?}");
    Ok(())
}
