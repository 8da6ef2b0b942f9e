//! Streaming prediction: events in, events with predictions out.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tidegate_harness::{Host, until, workspace_root};
use tidegate_it::clients::host_with_models;
use tidegate_it::{Scene, says};

const LIMIT: Duration = Duration::from_secs(120);
const EVENTS: u64 = 150;

/// Sends events whose features sum to a number of their own; one of them has none that the model takes.
async fn send(host: &Host) -> Result<()> {
    let sending = stream::iter(0..EVENTS).map(async |nth| {
        let features = if nth == 70 {
            json!([nth])
        } else {
            json!([nth, 1, 2, 3])
        };
        host.api
            .event("Measured", json!({ "features": features }))
            .await
            .map(drop)
    });
    sending.buffer_unordered(16).try_collect().await
}

/// The runs of the events, once each has ended.
async fn ended(host: &Host) -> Result<Vec<Value>> {
    let runs = until("the end of all runs", LIMIT, async || {
        let answer = host.api.get("/api/v1/runs?limit=1000").await?;
        let runs = answer["runs"].as_array().cloned().unwrap_or_default();
        let measured = runs.into_iter().filter(|run| run["type"] == "Measured");
        let ended: Vec<Value> = measured.filter(|run| run["state"] != "running").collect();
        Ok((ended.len() as u64 == EVENTS).then_some(ended))
    });
    let whole = stream::iter(runs.await?).then(async |run| {
        let id = run["run"].as_str().context("a run without an id")?.to_owned();
        host.api.get(&format!("/api/v1/runs/{id}")).await
    });
    whole.try_collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_scored_together_and_each_once_though_the_host_is_killed() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = host_with_models(&scene, "").await?;
    let manifest = workspace_root().join("functions/score/tidegate.toml");
    says(&host, &["deploy", &manifest.display().to_string()])?;
    send(&host).await?;
    host.kill().await?;
    host.restart().await?;

    let runs = ended(&host).await?;
    let steps: Vec<&Value> = runs.iter().filter_map(|run| run["steps"].get(0)).collect();
    let dead: Vec<_> = steps.iter().filter(|step| step["state"] != "done").collect();
    assert_eq!(dead.len(), 1, "{dead:?}");
    let together = steps
        .iter()
        .filter(|step| step["batch"]["events"].as_u64() > Some(1));
    assert!(together.count() > 1, "{steps:?}");
    let emitted = steps
        .iter()
        .filter_map(|step| step["emitted"].as_array())
        .flatten();
    let emitted: Vec<String> = emitted.map(Value::to_string).collect();
    let different: BTreeSet<&String> = emitted.iter().collect();
    assert_eq!(
        (emitted.len() as u64, different.len() as u64),
        (EVENTS - 1, EVENTS - 1)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_tells_of_the_score_of_another_and_of_the_version_that_gave_it() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "").await?;
    let manifest = workspace_root().join("functions/score/tidegate.toml");
    says(&host, &["deploy", &manifest.display().to_string()])?;
    let mut notices = host.api.follow().await?;
    let accepted = host
        .api
        .event("Measured", json!({ "features": [1, 2, 3, 4] }))
        .await?;
    let scored = notices
        .wait_for("a score", LIMIT, |notice| {
            notice.kind == "event" && notice.event_type == "Scored"
        })
        .await?;
    assert_eq!(
        scored.data,
        Some(json!({ "event": accepted["id"], "score": 10.0, "model_version": "1" }))
    );
    Ok(())
}
