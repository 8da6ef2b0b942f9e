//! `tidegate backup` and `tidegate restore`: a deployment is destroyed and comes back as it was.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Host, Install, Options, until};
use tidegate_it::{Scene, complains, says};
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Order, Store as _};

const LIMIT: Duration = Duration::from_secs(120);
/// Events that are counted, each under a key of its own.
const EVENTS: usize = 20;
/// Those of them that are counted before the back-up; the others wait in it.
const DONE: usize = 8;
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
"#;

/// Sends events that are counted.
async fn send(host: &Host, numbers: Range<usize>) -> Result<()> {
    for number in numbers {
        let event = json!({ "do": "count", "key": format!("k{number:02}") });
        host.api.event("Do", event).await?;
    }
    Ok(())
}

/// Waits until nothing is left to do.
async fn settled(host: &Host) -> Result<()> {
    let done = until("every run is done", LIMIT, async || {
        let runs = host.api.runs().await?;
        let all = runs.iter().all(|run| run.state.as_deref() == Some("done"));
        Ok(all.then_some(()))
    });
    done.await.with_context(|| host.log_tail())
}

/// What was counted in the store of a host that has ended.
async fn counted(data_dir: &Path) -> Result<Vec<String>> {
    let store = Embedded::open(&data_dir.join("store"))?;
    let page = store.query("counters", "", None, 1000, Order::Ascending).await?;
    let shown = page
        .entries
        .into_iter()
        .map(|(key, found)| format!("{key}={}", String::from_utf8_lossy(&found.value)));
    Ok(shown.collect())
}

fn restore(from: &Path, data_dir: &Path) -> Result<Output> {
    let mut command = Command::new(Install::find()?.tidegate);
    command.arg("restore").arg(from).arg("--data-dir").arg(data_dir);
    Ok(command.output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_was_destroyed_comes_back_as_it_was_and_does_what_waited_once() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = Host::start(scene.options(scene.file("tidegate.toml", APP)?)).await?;
    host.bucket("data")
        .put("hello/tide.txt", "the tide is coming in")
        .await?;
    send(&host, 0..DONE).await?;
    settled(&host).await?;
    // All have one key, so that those that follow wait for this one, and it for an object.
    let waits = json!({ "do": "await", "bucket": "data", "key": "in/later.txt" });
    host.api.event("Do", waits).await?;
    send(&host, DONE..EVENTS).await?;
    let file = scene.path("kept.tar");
    let summary = says(&host, &["backup", &file.display().to_string(), "--json"])?;
    let summary: Value = serde_json::from_str(&summary)?;
    assert_eq!(summary["store"], "embedded-1", "{summary}");
    let again = complains(&host, &["backup", &file.display().to_string()])?;
    assert!(again.contains("exists"), "{again}");
    host.bucket("data").put("hello/late.txt", "too late").await?;
    host.kill().await?;
    let place = host.data_dir().to_owned();
    std::fs::remove_dir_all(&place)?;

    let restored = restore(&file, &place)?;
    assert!(
        restored.status.success(),
        "{}",
        String::from_utf8_lossy(&restored.stderr)
    );
    let refused = restore(&file, &place)?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("is not empty"), "{why}");

    // Nobody deploys the app again: its versions are in the back-up.
    let mut host = Host::start(Options {
        manifest: None,
        ..scene.options(scene.path("tidegate.toml"))
    })
    .await?;
    let data = host.bucket("data");
    assert_eq!(data.get("hello/tide.txt").await?, b"the tide is coming in");
    assert_eq!(host.api.get_raw("/hello/tide").await?.0, 200);
    assert!(
        data.get("hello/late.txt").await.is_err(),
        "it came after the back-up"
    );
    data.put("in/later.txt", "at last").await?;
    settled(&host).await?;
    data.put("hello/new.txt", "it goes on").await?;
    settled(&host).await?;
    assert_eq!(host.api.get_raw("/hello/new").await?.0, 200);
    host.interrupt()?;
    host.exited().await?;
    let expected: Vec<_> = (0..EVENTS).map(|number| format!("k{number:02}=1")).collect();
    assert_eq!(counted(&place).await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_up_that_was_broken_off_restores_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let host = Host::start(scene.options(scene.file("tidegate.toml", APP)?)).await?;
    let file = scene.path("whole.tar");
    says(&host, &["backup", &file.display().to_string()])?;
    let whole = std::fs::read(&file)?;
    let cut = scene.path("cut.tar");
    std::fs::write(&cut, &whole[..whole.len() / 2])?;
    let place = scene.path("empty");
    let refused = restore(&cut, &place)?;
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("was broken off"),
        "{why}"
    );
    assert!(!place.exists(), "nothing is begun with it");
    Ok(())
}
