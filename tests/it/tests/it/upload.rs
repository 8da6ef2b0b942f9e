//! The main job: a dropped file becomes a served model.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_harness::{Host, Run, until};
use tidegate_it::{Flavour, Scene, interactions, settled_run};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_file_becomes_a_served_model() -> Result<()> {
    let scene = Scene::new()?;
    let host = scene.host().await?;
    let raw = host.bucket("data");
    raw.put("raw/first.csv", interactions(4000, 1, Flavour::Clean))
        .await?;
    let run = settled_run(&host, "raw/first.csv").await?;
    every_step_is_done(&run);
    the_first_model_is_the_champion(&host).await?;
    predictions_come_over_https(&host).await?;
    predictions_are_recorded(&host).await?;
    the_features_are_there(&host).await?;

    raw.put("raw/second.csv", interactions(4000, 2, Flavour::Clean))
        .await?;
    let run = settled_run(&host, "raw/second.csv").await?;
    every_step_is_done(&run);
    let model = host.api.model("ranker").await?;
    assert_eq!(model["versions"].as_array().map(Vec::len), Some(2), "{model}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_file_takes_the_same_way() -> Result<()> {
    let scene = Scene::new()?;
    let host = scene.host().await?;
    let request = json!({ "users": 100, "items": 200, "interactions": 5000, "days": 10, "seed": 7 });
    host.api.event("GenerateRequested", request).await?;
    let keys = until("the generated file", Duration::from_secs(60), async || {
        let keys = host.bucket("data").list("raw/").await?;
        Ok((!keys.is_empty()).then_some(keys))
    })
    .await?;
    assert_eq!(keys, ["raw/interactions-7.csv"]);
    let found = until("a model", Duration::from_secs(240), async || {
        Ok(host.api.model("ranker").await.ok())
    })
    .await?;
    assert_eq!(found["versions"].as_array().map(Vec::len), Some(1), "{found}");
    Ok(())
}

fn every_step_is_done(run: &Run) {
    assert_eq!(run.state.as_deref(), Some("done"), "{run:#?}");
    let functions: Vec<&str> = run
        .steps
        .iter()
        .filter_map(|step| step.function.as_deref())
        .collect();
    for step in [
        "ingest",
        "validate",
        "features",
        "train",
        "job:train.two-tower",
        "evaluate",
    ] {
        assert!(functions.contains(&step), "no step `{step}` among {functions:?}");
    }
    for step in &run.steps {
        assert_eq!((step.state.as_str(), step.attempt), ("done", 1), "{step:#?}");
    }
}

async fn the_first_model_is_the_champion(host: &Host) -> Result<()> {
    let model = host.api.model("ranker").await?;
    assert_eq!(
        model["aliases"]["champion"]["version"]
            .as_u64()
            .or(model["aliases"]["champion"].as_u64()),
        Some(1),
        "{model}"
    );
    let auc = find_number(&model, "auc");
    assert!(
        auc.is_some_and(|auc| auc > 0.6),
        "the groups of the data are easy to learn: {model}"
    );
    Ok(())
}

async fn predictions_come_over_https(host: &Host) -> Result<()> {
    let https = host.https()?;
    let items = json!([0, 1, 2, 3, 4, 5, 6, 7, 999_999]);
    for user in [0, 1, 123_456_789] {
        let answer = https
            .post("/predict", &json!({ "user_id": user, "item_ids": items }))
            .await?;
        assert_eq!(answer["user_id"], user);
        let predictions = answer["predictions"].as_array().cloned().unwrap_or_default();
        assert_eq!(predictions.len(), 9, "{answer}");
        let score_of = |item: &Value| {
            predictions
                .iter()
                .find(|one| one["item_id"] == *item)
                .and_then(|one| one["score"].as_f64())
        };
        let ranked = answer["ranked_items"].as_array().cloned().unwrap_or_default();
        let scores: Vec<f64> = ranked.iter().filter_map(score_of).collect();
        assert_eq!(scores.len(), 9, "every item is ranked once: {answer}");
        assert!(scores.is_sorted_by(|left, right| left >= right), "{answer}");
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{answer}");
        assert!(
            answer["latency_ms"].is_number() && !answer["model_version"].is_null(),
            "{answer}"
        );
    }
    Ok(())
}

async fn predictions_are_recorded(host: &Host) -> Result<()> {
    let recorded = until("recorded predictions", Duration::from_secs(30), async || {
        let mut text = String::new();
        for key in host.bucket("data").list("predictions/").await? {
            text.push_str(&String::from_utf8_lossy(&host.bucket("data").get(&key).await?));
        }
        Ok((text.lines().count() >= 3).then_some(text))
    })
    .await?;
    assert!(recorded.contains("123456789"), "{recorded}");
    Ok(())
}

async fn the_features_are_there(host: &Host) -> Result<()> {
    let keys = host.bucket("data").list("features/").await?;
    for name in [
        "train.parquet",
        "validation.parquet",
        "test.parquet",
        "dataset.json",
    ] {
        assert!(
            keys.iter().any(|key| key.ends_with(name)),
            "no `{name}` among {keys:?}"
        );
    }
    Ok(())
}

/// The first number under `key`, however deep.
fn find_number(value: &Value, key: &str) -> Option<f64> {
    match value {
        Value::Object(fields) => fields
            .get(key)
            .and_then(Value::as_f64)
            .or_else(|| fields.values().find_map(|field| find_number(field, key))),
        Value::Array(all) => all.iter().find_map(|one| find_number(one, key)),
        _ => None,
    }
}
