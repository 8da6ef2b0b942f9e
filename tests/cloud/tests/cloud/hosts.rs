//! Hosts that share one store: nothing lost, nothing done twice, also when one of them is killed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::Servers;
use tidegate_harness::{Host, Options, until};
use tidegate_runtime::store::{Order, Store};

/// Long enough for hosts that share two cores with their cloud and a build.
const LIMIT: Duration = Duration::from_secs(240);
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
        let settings = self.servers.settings("shore");
        let address = |endpoint: Option<String>| endpoint.unwrap_or_default();
        let config = format!(
            "[store]\nkind = \"aws\"\ntable = \"shore\"\nbucket = \"shore\"\nqueues = \"shore-\"\n\
             region = \"us-east-1\"\nvisibility = \"10s\"\ndynamodb = \"{}\"\ns3 = \"{}\"\nsqs = \"{}\"\n\
             [worker]\nstart = false\n",
            address(settings.endpoints.dynamodb),
            address(settings.endpoints.s3),
            address(settings.endpoints.sqs),
        );
        let config = self.file("config.toml", &config)?;
        Host::start(Options {
            manifest,
            env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
            ..Options::default()
        })
        .await
    }

    /// What was counted, by key.
    async fn counted(&self) -> Result<Vec<(String, String)>> {
        let page = self
            .store
            .query("counters", "", None, 1000, Order::Ascending)
            .await?;
        let shown = |(key, found): (String, tidegate_runtime::store::Versioned)| {
            (key, String::from_utf8_lossy(&found.value).into_owned())
        };
        Ok(page.entries.into_iter().map(shown).collect())
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
