//! Versions of a model that share its requests: by weights, by a policy, and as a shadow.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tidegate_harness::{Follower, Host, Notice, until};
use tidegate_it::clients::host_with_models;
use tidegate_it::observers::families;
use tidegate_it::{Scene, complains, says};

const LIMIT: Duration = Duration::from_secs(120);

/// A host with a model whose version 1, the champion, sums rows up, and whose version 2 is another file.
async fn host_with_candidates(scene: &Scene, models: &[(&str, &str)]) -> Result<Host> {
    let host = host_with_models(scene, "").await?;
    for (model, second) in models {
        for file in ["sums", second] {
            let file = scene.path("onnx").join(format!("{file}.onnx"));
            says(&host, &["models", "register", model, &file.display().to_string()])?;
        }
    }
    Ok(host)
}

/// Asks a model for the sum of a row of its own, by a key; what it answered, or none where it failed. `broken` answers rows
/// from 0 alone.
async fn ask(host: &Host, model: &str, key: u64, from: u64) -> Result<Option<Value>> {
    let row: Vec<u64> = (from..from + 4).map(|nth| nth * (1 + key % 7)).collect();
    let asked = json!({
        "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": row }],
        "parameters": { "routing_key": format!("user-{key}") },
    });
    let path = format!("/v2/models/{model}/infer");
    let (status, text) = host.api.post_raw(&path, asked.to_string().into_bytes()).await?;
    match status {
        200 => Ok(Some(serde_json::from_str(&text)?)),
        _ => Ok(None),
    }
}

/// The versions that answer so many keys.
async fn versions(host: &Host, model: &str, keys: u64) -> Result<Vec<String>> {
    versions_from(host, model, keys, 1).await
}

/// The same, with rows that begin so.
async fn versions_from(host: &Host, model: &str, keys: u64, from: u64) -> Result<Vec<String>> {
    let asking = stream::iter(0..keys).map(|key| ask(host, model, key, from));
    let answers: Vec<_> = asking.buffered(16).try_collect().await?;
    let version = |answer: &Value| answer["model_version"].as_str().unwrap_or_default().to_owned();
    Ok(answers
        .iter()
        .map(|answer| answer.as_ref().map(version).unwrap_or_default())
        .collect())
}

/// Asks until a rollout has ended, and how it did.
async fn end_of(host: &Host, model: &str) -> Result<Value> {
    past(host, model, "running", 1).await
}

/// Asks with rows that begin so until a rollout is not in a state any more, and how it is then.
async fn past(host: &Host, model: &str, state: &str, from: u64) -> Result<Value> {
    until(
        &format!("the rollout of {model} past {state}"),
        LIMIT,
        async || {
            versions_from(host, model, 200, from).await?;
            let shown = host.api.model(model).await?;
            Ok((shown["rollout"]["state"] != state).then_some(shown))
        },
    )
    .await
}

fn begin(host: &Host, model: &str, watch: &str) -> Result<String> {
    let policy = [
        "--stages",
        "20,60,100",
        "--min-requests",
        "80",
        "--min-time",
        "10ms",
        "--watch",
        watch,
    ];
    // What a busy machine takes is not what is tried here.
    let bounds = ["--max-latency-ratio", "1000", "--max-drift", "1"];
    let begun = [["models", "rollout", model, "2"].as_slice(), &policy, &bounds].concat();
    says(host, &begun)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_rolled_out_in_stages_or_rolled_back_when_it_errs_or_drifts() -> Result<()> {
    let scene = Scene::new()?;
    let models = [("fine", "sums"), ("erring", "broken"), ("drifting", "thrice")];
    let host = host_with_candidates(&scene, &models).await?;
    let mut events = host.api.follow().await?;

    let said = begin(&host, "fine", "0s")?;
    assert!(said.contains("stage of 20 %: running"), "{said}");
    let refused = complains(&host, &["models", "alias", "fine", "champion", "2"])?;
    assert!(refused.contains("is being rolled out"), "{refused}");
    let fine = end_of(&host, "fine").await?;
    assert_eq!(fine["rollout"]["state"], "rolled-out", "{fine}");
    assert_eq!(fine["aliases"]["champion"], 2, "{fine}");
    assert_eq!(fine["aliases"]["previous"], 1, "{fine}");
    assert_eq!(fine["splits"], json!({}), "{fine}");

    for (model, reason) in [("erring", "requests failed"), ("drifting", "scores drift")] {
        begin(&host, model, "1h")?;
        let ended = end_of(&host, model).await?;
        assert_eq!(ended["rollout"]["state"], "rolled-back", "{ended}");
        let told = ended["rollout"]["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{ended}");
        assert_eq!(ended["aliases"]["champion"], 1, "{ended}");
        assert_eq!(ended["splits"], json!({}), "{ended}");
        assert!(says(&host, &["models", "show", model])?.contains(reason));
    }
    for (kind, model) in [
        ("tidegate.model.rolled-out", "fine"),
        ("tidegate.model.rolled-back", "erring"),
        ("tidegate.model.rolled-back", "drifting"),
    ] {
        event_about(&mut events, kind, model).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_champion_that_degrades_gives_its_place_back_though_its_host_was_killed() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = host_with_candidates(&scene, &[("later", "broken")]).await?;
    let mut events = host.api.follow().await?;
    begin(&host, "later", "1h")?;
    let promoted = past(&host, "later", "running", 0).await?;
    assert_eq!(promoted["rollout"]["state"], "watched", "{promoted}");
    assert_eq!(promoted["aliases"]["champion"], 2, "{promoted}");
    assert_eq!(promoted["aliases"]["previous"], 1, "{promoted}");
    assert!(says(&host, &["models", "show", "later"])?.contains("stage of 100 %: watched"));
    event_about(&mut events, "tidegate.model.promoted", "later").await?;
    host.kill().await?;
    host.restart().await?;

    // What fails while no worker is there would count as well.
    until("a worker", LIMIT, async || {
        let (status, _) = host.api.get_raw("/v2/health/ready").await?;
        Ok((status == 200).then_some(()))
    })
    .await?;
    let mut events = host.api.follow().await?;
    let asked = versions_from(&host, "later", 200, 0).await?;
    assert!(asked.iter().all(|version| version == "2"), "{asked:?}");
    let back = past(&host, "later", "watched", 1).await?;
    assert_eq!(back["rollout"]["state"], "rolled-back", "{back}");
    let reason = back["rollout"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("requests failed"), "{back}");
    assert_eq!(back["aliases"]["champion"], 1, "{back}");
    assert_eq!(back["aliases"]["previous"], 2, "{back}");
    event_about(&mut events, "tidegate.model.rolled-back", "later").await
}

/// Waits until an event tells of a model.
async fn event_about(events: &mut Follower, kind: &str, model: &str) -> Result<()> {
    let wanted = |notice: &Notice| notice.event_type == kind && notice.subject.as_deref() == Some(model);
    events.wait_for(kind, LIMIT, wanted).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_share_requests_by_their_weights_and_a_key_stays_with_its_own() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_candidates(&scene, &[("shared", "thrice")]).await?;
    let said = says(&host, &["models", "alias", "shared", "champion", "1=70,2=30"])?;
    assert!(
        said.contains("champion 70 %") && said.contains("champion 30 %"),
        "{said}"
    );
    let first = versions(&host, "shared", 200).await?;
    let second = first.iter().filter(|version| *version == "2").count();
    assert!((30..=90).contains(&second), "{first:?}");
    assert!(
        first.iter().all(|version| version == "1" || version == "2"),
        "{first:?}"
    );
    assert_eq!(versions(&host, "shared", 200).await?, first);
    let wrong = complains(&host, &["models", "alias", "shared", "champion", "1=70,9=30"])?;
    assert!(wrong.contains("model `shared` has no version 9"), "{wrong}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_asked_the_same_and_never_answers() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_candidates(&scene, &[("shadowed", "thrice")]).await?;
    let said = says(&host, &["models", "shadow", "shadowed", "2"])?;
    assert!(said.contains("shadow of champion"), "{said}");
    let told = async |family: &str, sample: &str| -> Result<f64> {
        let families = families(&host.api.get_text("/metrics").await?).await?;
        // There is no family before its first sample.
        let samples = families
            .get(family)
            .and_then(|family| family["samples"].as_array());
        let named = samples
            .into_iter()
            .flatten()
            .filter(|found| found[0].as_str() == Some(sample));
        Ok(named.filter_map(|found| found[2].as_f64()).sum())
    };
    until("a copy that the shadow answered", LIMIT, async || {
        let answering: BTreeSet<String> = versions(&host, "shadowed", 20).await?.into_iter().collect();
        ensure!(answering == BTreeSet::from(["1".to_owned()]), "{answering:?}");
        // Thrice a sum differs from it by more than nothing.
        let copied = told("tidegate_shadow_requests", "tidegate_shadow_requests_total").await?;
        let differed = told("tidegate_shadow_difference", "tidegate_shadow_difference_sum").await?;
        Ok((copied > 0.0 && differed > 0.0).then_some(()))
    })
    .await?;
    says(&host, &["models", "shadow", "shadowed", "--off"])?;
    assert_eq!(host.api.model("shadowed").await?["shadows"], json!({}));
    let own = complains(&host, &["models", "shadow", "shadowed", "1"])?;
    assert!(own.contains("a shadow is another one"), "{own}");
    Ok(())
}
