//! Queues of SQS go with the versions of functions that they are of, and never with an event in them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use tidegate_cloud::{Cloud, Settings};
use tidegate_cloud_tests::Servers;
use tidegate_harness::{Host, Options, until};
use tidegate_runtime::store::conformance::enqueue;
use tidegate_runtime::store::{Store, Unit};

const LIMIT: Duration = Duration::from_secs(120);
const WAIT: Duration = Duration::from_secs(10);
const VISIBILITY: Duration = Duration::from_secs(10);

/// A store that keeps no queue that nobody takes from.
async fn open(servers: &Servers, name: &str) -> Result<Cloud> {
    Ok(Cloud::open(Settings {
        keep_queues: Duration::ZERO,
        ..servers.settings(name)
    })
    .await?)
}

async fn send(store: &Cloud, id: &str) -> Result<()> {
    let unit = Unit {
        enqueue: vec![enqueue("q", id)],
        ..Unit::default()
    };
    Ok(store.commit(unit).await?)
}

/// Takes one event, and is done with it.
async fn handle(store: &Cloud) -> Result<String> {
    let delivery = until("an event", LIMIT, async || {
        Ok(store.claim("q", 1, WAIT).await?.pop())
    })
    .await?;
    let settle = vec![delivery.receipt];
    store
        .commit(Unit {
            settle,
            ..Unit::default()
        })
        .await?;
    Ok(delivery.event.id.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_nobody_takes_from_goes_when_it_is_empty_and_comes_back_with_its_next_event()
-> Result<()> {
    let servers = Servers::start().await?;
    let (store, sqs) = (open(&servers, "shore").await?, servers.outside());
    send(&store, "first").await?;
    store.retire("q").await?;
    store.sweep().await?;
    assert_eq!(sqs.queues("shore-").await?.len(), 1, "an event is in it");
    assert_eq!(handle(&store).await?, "first");

    store.sweep().await?;
    assert_eq!(sqs.queues("shore-").await?.len(), 1, "it was used since");
    store.retire("q").await?;
    store.sweep().await?;
    assert_eq!(sqs.queues("shore-").await?, Vec::<String>::new());
    send(&store, "second").await?;
    assert_eq!(handle(&store).await?, "second");
    Ok(())
}

fn app(greeting: &str) -> String {
    format!(
        r#"
[app]
name = "shore"

[[function]]
name = "count"
component = "tidegate_guests.wasm"
trigger = [{{ event = "Do" }}]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
variables = {{ greeting = "{greeting}" }}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_a_version_that_has_drained_goes_and_that_of_the_present_one_stays() -> Result<()> {
    let (folder, servers) = (TempDir::new()?, Servers::start().await?);
    let file = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let config = file("config.toml", &servers.config("shore", VISIBILITY))?;
    let host = Host::start(Options {
        manifest: Some(file("tidegate.toml", &app("Hello"))?),
        watch: true,
        env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
        ..Options::default()
    })
    .await?;
    let (store, sqs) = (open(&servers, "shore").await?, servers.outside());
    let queues = |version: u32| format!("shore-count-{version}-");
    host.api.event("Do", json!({ "do": "count", "key": "k" })).await?;
    until("the first queue", LIMIT, async || {
        Ok((!sqs.queues(&queues(1)).await?.is_empty()).then_some(()))
    })
    .await?;
    file("tidegate.toml", &app("Ahoy"))?;
    until("the end of the first queue", LIMIT, async || {
        store.sweep().await?;
        let (first, second) = (sqs.queues(&queues(1)).await?, sqs.queues(&queues(2)).await?);
        Ok((first.is_empty() && !second.is_empty()).then_some(()))
    })
    .await
    .with_context(|| host.log_tail())?;
    let counted = store.get("counters", "k").await?.context("it was counted")?;
    assert_eq!(&counted.value[..], b"1");
    Ok(())
}
