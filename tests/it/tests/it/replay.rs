//! Replay seen from the command line: a past event is run again, told beside what was done, and nothing of it is done.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Host, Step, until};
use tidegate_it::{Scene, complains, says};

const LIMIT: Duration = Duration::from_secs(120);

/// A step that may read one table, and one that hears what it emits.
fn manifest(read: &str) -> String {
    format!(
        r#"
[app]
name = "odd"

[[function]]
name = "odd"
component = "tidegate_guests.wasm"
trigger = [{{ event = "Do" }}]
grants.objects.read = ["data/out/", "data/gate/"]
grants.objects.write = ["data/out/"]
grants.state.read = ["{read}"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
retry = {{ max_attempts = 1000 }}

[[function]]
name = "one"
component = "tidegate_guests.wasm"
trigger = [{{ event = "Echo" }}]
grants.objects.read = ["data/in/"]
grants.state.read = ["nothing"]
grants.events.emit = ["Never"]
retry = {{ max_attempts = 1 }}

[[function]]
name = "other"
component = "tidegate_guests.wasm"
trigger = [{{ event = "Echo" }}]
grants.objects.read = ["data/in/"]
grants.state.read = ["nothing"]
grants.events.emit = ["Never"]
retry = {{ max_attempts = 1 }}
"#
    )
}

struct Past {
    host: Host,
    manifest: PathBuf,
    scene: Scene,
}

impl Past {
    async fn start() -> Result<Self> {
        let scene = Scene::new()?;
        let manifest = scene.file("tidegate.toml", &manifest("counters"))?;
        Ok(Self {
            host: Host::start(scene.options(manifest.clone())).await?,
            manifest,
            scene,
        })
    }

    /// Has a step do something, and waits until it has come to a state; hands back its event.
    async fn step(&self, deed: Value, state: &str) -> Result<String> {
        let sent = self.host.api.event("Do", deed).await?;
        let event = sent["id"].as_str().context("no id")?.to_owned();
        until(&format!("`{event}` {state}"), LIMIT, async || {
            let steps = self.host.api.run(&event).await?.steps;
            let found = |step: &Step| step.event == event && step.state == state;
            Ok(steps.iter().any(found).then_some(()))
        })
        .await?;
        Ok(event)
    }

    fn replay(&self, event: &str, args: &[&str]) -> Result<Value> {
        let args = [&["replay", event, "--json"], args].concat();
        Ok(serde_json::from_str(&says(&self.host, &args)?)?)
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The effects that are told, each with how it differs.
fn effects(replayed: &Value) -> Vec<(&str, &str, &str)> {
    let effects = replayed["effects"].as_array().into_iter().flatten();
    effects
        .map(|effect| {
            (
                text(effect, "difference"),
                text(effect, "kind"),
                text(effect, "name"),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_tells_what_would_be_done_beside_what_was_and_does_nothing() -> Result<()> {
    let past = Past::start().await?;
    let bucket = past.host.bucket("data");
    let write = json!({ "do": "objects", "bucket": "data", "key": "out/o", "text": "hello" });
    let wrote = past.step(write, "done").await?;
    let counted = past.step(json!({ "do": "count", "key": "k" }), "done").await?;
    let emitted = past.step(json!({ "do": "emit", "count": 2 }), "done").await?;
    bucket
        .client
        .delete_object()
        .bucket("data")
        .key("out/o")
        .send()
        .await?;

    let replayed = past.replay(&wrote, &[])?;
    assert_eq!(
        effects(&replayed),
        [("same", "object", "data/out/o")],
        "{replayed}"
    );
    assert_eq!(replayed["effects"][0]["size"], 5);
    assert_eq!(replayed["recorded"]["state"], "done");
    assert_eq!(
        (&replayed["version"], &replayed["recorded"]["version"]),
        (&json!(1), &json!(1))
    );
    assert!(
        bucket.list("out/").await?.is_empty(),
        "the object was published again"
    );

    // It reads what its recorded self has written, and what it would write itself is gone the next time.
    for _ in 0..2 {
        let replayed = past.replay(&counted, &["--version", "1"])?;
        assert_eq!(
            effects(&replayed),
            [("changed", "state", "counters/k")],
            "{replayed}"
        );
    }
    let before = past.host.api.run(&emitted).await?.steps.len();
    let replayed = past.replay(&emitted, &[])?;
    assert_eq!(effects(&replayed), [("same", "event", "Echo"); 2], "{replayed}");
    let run = past.host.api.run(&emitted).await?;
    assert_eq!(
        (before, run.steps.len()),
        (1 + 2 * 2, 1 + 2 * 2),
        "nothing was emitted"
    );
    assert_eq!(past.host.api.runs().await?.len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_tried_on_past_events_before_it_takes_new_ones() -> Result<()> {
    let past = Past::start().await?;
    let counted = past.step(json!({ "do": "count", "key": "k" }), "done").await?;
    past.scene.file("tidegate.toml", &manifest("elsewhere"))?;
    let file = past.manifest.display().to_string();
    says(&past.host, &["deploy", &file, "--no-traffic"])?;
    says(&past.host, &["alias", "set", "odd", "candidate", "2"])?;

    let replayed = past.replay(&counted, &["--alias", "candidate"])?;
    assert_eq!(replayed["version"], 2);
    assert_eq!(
        effects(&replayed),
        [("missing", "state", "counters/k")],
        "{replayed}"
    );
    let said = says(&past.host, &["replay", &counted, "--alias", "candidate"])?;
    let mut lines = said.lines();
    let failed = lines.next().context("nothing is said")?;
    assert!(failed.starts_with("replayed  odd@2  failed after "), "{said}");
    assert!(
        failed.contains("missing grant `state.read = [\"counters\"]`"),
        "{said}"
    );
    assert_eq!(
        lines.next(),
        Some("recorded  odd@1  done after attempt 1"),
        "{said}"
    );
    assert!(said.contains("-  state  counters/k"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_or_are_dead_are_replayed_and_what_cannot_be_is_told() -> Result<()> {
    let past = Past::start().await?;
    let waits = json!({ "do": "await", "bucket": "data", "key": "gate/open" });
    let waiting = past.step(waits, "retry").await?;
    let replayed = past.replay(&waiting, &[])?;
    assert_eq!(replayed["compared"], false, "{replayed}");
    assert!(
        replayed["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("gate/open")),
        "{replayed}"
    );

    let dead = past
        .step(json!({ "do": "reject", "reason": "not this" }), "dead")
        .await?;
    let replayed = past.replay(&dead, &[])?;
    assert_eq!(
        (&replayed["recorded"]["state"], &replayed["reason"]),
        (&json!("dead"), &json!("not this"))
    );

    let emitted = past.step(json!({ "do": "emit", "count": 1 }), "done").await?;
    let steps = past.host.api.run(&emitted).await?.steps;
    let heard = steps
        .iter()
        .find(|step| step.event != emitted)
        .context("no echo")?;
    let large = past
        .step(json!({ "do": "nothing", "padding": "p".repeat(70_000) }), "done")
        .await?;
    for (args, told) in [
        (
            &["nothing"][..],
            "event `nothing` is not kept: those with up to 64 KiB of data are kept for 7 days",
        ),
        (&[&large], "is not kept"),
        (
            &[&dead, "--version", "9"],
            "function `odd` has no version 9; kept are 1",
        ),
        (
            &[&dead, "--alias", "candidate"],
            "function `odd` has no alias `candidate`; it has `live`",
        ),
        (&[&dead, "--function", "nobody"], "went to `odd`; not to `nobody`"),
        (
            &[&heard.event],
            "went to `one`, `other`; say which with `--function`",
        ),
    ] {
        let complained = complains(&past.host, &[&["replay"], args].concat())?;
        assert!(complained.contains(told), "{args:?}: {complained}");
    }
    let replayed = past.replay(&heard.event, &["--function", "other"])?;
    assert_eq!(replayed["function"], "other");
    Ok(())
}
