//! Back-ups of a store that hosts share: table, bucket and queues are destroyed, and come back as they were.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::{Declarer, Servers};
use tidegate_harness::{Host, Install, Options, until};
use tidegate_runtime::store::conformance::{enqueue, publication, put, stage};
use tidegate_runtime::store::{Enqueue, Extent, Frozen, Group, Order, Refill, Store, StoreError, Unit};

const LIMIT: Duration = Duration::from_secs(240);
const VISIBILITY: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(20);
/// More than a row takes in.
const LARGE: usize = 500 << 10;
/// Events that are counted, each under a key of its own.
const EVENTS: usize = 12;
/// Those of them that are counted before the back-up; the others wait in it.
const DONE: usize = 5;

const APP: &str = r#"
[app]
name = "kept"

[[function]]
name = "count"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
key = { of = "data.of", ordered = true }
retry = { max_attempts = 1000 }
"#;

fn tidegate(args: &[&str], more: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(Install::find()?.tidegate);
    Ok(command.args(args).envs(more.iter().copied()).output()?)
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn file(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

async fn host(config: &Path, manifest: Option<PathBuf>) -> Result<Host> {
    Host::start(Options {
        manifest,
        env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
        ..Options::default()
    })
    .await
}

/// Sends events that are counted.
async fn send(host: &Host, numbers: Range<usize>) -> Result<()> {
    for number in numbers {
        let event = json!({ "do": "count", "key": format!("k{number:02}") });
        host.api.event("Do", event).await?;
    }
    Ok(())
}

async fn counted(store: &Cloud) -> Result<Vec<String>> {
    let page = store.query("counters", "", None, 1000, Order::Ascending).await?;
    let shown = page.entries.into_iter();
    Ok(shown
        .map(|(key, found)| format!("{key}={}", String::from_utf8_lossy(&found.value)))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_services_were_destroyed_comes_back_and_does_what_waited_once() -> Result<()> {
    let folder = TempDir::new()?;
    let saved = folder.path().join("kept.tar").display().to_string();
    {
        let servers = Servers::start().await?;
        let config = file(folder.path(), "old.toml", &servers.config("kept", VISIBILITY))?;
        let manifest = file(folder.path(), "tidegate.toml", APP)?;
        let host = host(&config, Some(manifest)).await?;
        host.bucket("data")
            .put("in/tide.txt", "the tide is coming in")
            .await?;
        let store = Cloud::open(servers.settings("kept")).await?;
        send(&host, 0..DONE).await?;
        until("the first are counted", LIMIT, async || {
            Ok((counted(&store).await?.len() == DONE).then_some(()))
        })
        .await?;
        // All have one key, so that those that follow wait for this one, and it for an object.
        let waits = json!({ "do": "await", "bucket": "data", "key": "in/later.txt" });
        host.api.event("Do", waits).await?;
        send(&host, DONE..EVENTS).await?;
        let output = tidegate(
            &["backup", &saved, "--json"],
            &[("TIDEGATE_HOST_URL", &host.ready.gateway)],
        )?;
        ensure!(output.status.success(), "{}\n{}", said(&output), host.log_tail());
        let summary: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(summary["store"], "aws-1", "{summary}");
        // The host goes on.
        host.bucket("data").put("in/late.txt", "too late").await?;
    }
    // The servers are gone, with all that was in them.
    let servers = Servers::start().await?;
    let config = file(folder.path(), "new.toml", &servers.config("kept", VISIBILITY))?;
    let named = config.display().to_string();
    let restored = tidegate(&["restore", &saved, "--config", &named], &[])?;
    ensure!(restored.status.success(), "{}", said(&restored));
    let twice = tidegate(&["restore", &saved, "--config", &named], &[])?;
    ensure!(
        !twice.status.success() && said(&twice).contains("is not empty"),
        "{}",
        said(&twice)
    );

    let host = host(&config, None).await?;
    let store = Cloud::open(servers.settings("kept")).await?;
    let data = host.bucket("data");
    assert_eq!(data.get("in/tide.txt").await?, b"the tide is coming in");
    assert!(
        data.get("in/late.txt").await.is_err(),
        "it came after the back-up"
    );
    assert_eq!(counted(&store).await?.len(), DONE);
    data.put("in/later.txt", "at last").await?;
    let expected: Vec<_> = (0..EVENTS).map(|number| format!("k{number:02}=1")).collect();
    until("what waited is counted", LIMIT, async || {
        Ok((counted(&store).await?.len() == EVENTS).then_some(()))
    })
    .await
    .with_context(|| host.log_tail())?;
    until("every run is done", LIMIT, async || {
        let runs = host.api.runs().await?;
        Ok(runs.iter().all(|run| run.finished.is_some()).then_some(()))
    })
    .await?;
    assert_eq!(counted(&store).await?, expected);
    Ok(())
}

/// Pours a moment into an empty store, by way of a file.
pub(crate) async fn pour(
    mut frozen: Box<dyn Frozen>,
    mut into: Box<dyn Refill>,
    scratch: &Path,
) -> Result<(), StoreError> {
    let file = scratch.join("blob");
    while let Some(part) = frozen.next().await? {
        into.rows(part.rows).await?;
        for name in part.blobs {
            let bytes = frozen.blob(&name).await?.read_at(0, usize::MAX).await?;
            std::fs::write(&file, &bytes).map_err(StoreError::new)?;
            let bytes = Extent {
                file: &file,
                offset: 0,
                len: bytes.len() as u64,
            };
            into.blob(&name, bytes).await?;
        }
    }
    into.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_has_large_values_groups_and_what_was_handed_out() -> Result<()> {
    let (folder, servers) = (TempDir::new()?, Servers::start().await?);
    let old = Cloud::open(servers.settings("old")).await?;
    let staged = stage(&old, b"bytes").await;
    let large = "x".repeat(LARGE);
    let in_group = |id: &str| Enqueue {
        group: Some(Group::of(b"g")),
        ..enqueue("q", id)
    };
    old.commit(Unit {
        state: vec![put("t", "k", "v"), put("t", "large", &large)],
        objects: vec![publication("b", "o", Some(staged))],
        enqueue: vec![enqueue("q", "alone"), in_group("first"), in_group("second")],
        ..Unit::default()
    })
    .await?;
    let held = until("both are handed out", LIMIT, async || {
        let held = old.claim("q", 10, WAIT).await?;
        Ok((!held.is_empty()).then_some(held))
    })
    .await?;
    assert!(!held.is_empty());
    let frozen = old.freeze().await?.context("it lasts")?;
    pour(
        frozen,
        tidegate_cloud::refill(servers.settings("new"), "sum").await?,
        folder.path(),
    )
    .await?;

    let new = Cloud::open(servers.settings("new")).await?;
    let values = new.get_many("t", &["k".into(), "large".into()]).await?;
    let values: Vec<_> = values
        .into_iter()
        .flatten()
        .map(|found| found.value.len())
        .collect();
    assert_eq!(values, [1, LARGE]);
    let object = new.open("b", "o").await?.context("the object")?;
    assert_eq!(&object.read_at(0, 100).await?[..], b"bytes");
    let mut order = Vec::new();
    until("every event is handed out", LIMIT, async || {
        for delivery in new.claim("q", 10, WAIT).await? {
            order.push(delivery.event.id.clone());
            let settle = vec![delivery.receipt];
            new.commit(Unit {
                settle,
                ..Unit::default()
            })
            .await?;
        }
        Ok((order.len() >= 3).then_some(()))
    })
    .await?;
    order.retain(|id| id != "alone");
    assert_eq!(order, ["first", "second"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_written_to_while_it_is_read_gives_no_back_up() -> Result<()> {
    let (folder, servers) = (TempDir::new()?, Servers::start().await?);
    let old = Cloud::open(servers.settings("old")).await?;
    let write = |key: &str| put("t", key, "v");
    old.commit(Unit {
        state: vec![write("k")],
        ..Unit::default()
    })
    .await?;
    let frozen = old.freeze().await?.context("it lasts")?;
    // Nobody asks those who declare to wait.
    let declarer = Declarer::new(&servers.settings("old"));
    declarer
        .declare("app/late", &json!({}), ("components/late.wasm", ""), &json!({}))
        .await?;
    let poured = pour(
        frozen,
        tidegate_cloud::refill(servers.settings("new"), "sum").await?,
        folder.path(),
    )
    .await;
    let why = poured.map_err(|error| error.to_string());
    assert!(
        why.as_ref().is_err_and(|why| why.contains("was written to")),
        "{why:?}"
    );
    // What was begun with it stays closed, and takes the next one only under the same name.
    let other = tidegate_cloud::refill(servers.settings("new"), "another").await;
    assert!(other.is_err_and(|error| error.to_string().contains("is not empty")));
    let new = Cloud::open(servers.settings("new")).await?;
    let refused = new
        .commit(Unit {
            state: vec![write("k")],
            ..Unit::default()
        })
        .await;
    assert!(refused.is_err_and(|error| error.to_string().contains("until it is restored")));
    // The store itself goes on at once.
    old.commit(Unit {
        state: vec![write("on")],
        ..Unit::default()
    })
    .await?;
    Ok(())
}
