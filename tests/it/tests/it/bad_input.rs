//! Whatever comes in, the answer names what is wrong, and the host stays up.

use anyhow::Result;
use serde_json::json;
use tidegate_harness::{Host, Run};
use tidegate_it::{Flavour, Scene, interactions, settled_run};

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_end_their_own_run_with_a_reason() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = scene.host().await?;
    let bucket = host.bucket("data");

    bucket.put("raw/header.csv", "who,what,when\n1,2,3\n").await?;
    assert_dead_with(&settled_run(&host, "raw/header.csv").await?, &["user_id", "who"]);

    bucket.put("raw/empty.csv", "").await?;
    assert_dead_with(&settled_run(&host, "raw/empty.csv").await?, &["empty"]);

    let mut truncated = b"PAR1".to_vec();
    truncated.extend_from_slice(&[7; 600]);
    bucket.put("raw/truncated.parquet", truncated).await?;
    assert_dead_with(&settled_run(&host, "raw/truncated.parquet").await?, &["arquet"]);

    bucket.put("raw/broken.jsonl", "{\"user_id\": 1, \n").await?;
    let broken = settled_run(&host, "raw/broken.jsonl").await?;
    assert_ne!(broken.state.as_deref(), Some("running"), "{broken:#?}");

    assert!(host.is_running());
    bucket
        .put("raw/malformed.csv", interactions(3000, 3, Flavour::Malformed))
        .await?;
    let run = settled_run(&host, "raw/malformed.csv").await?;
    assert_eq!(
        run.state.as_deref(),
        Some("done"),
        "thirty bad rows of 3,000 stop nobody: {run:#?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_questions_are_answered_with_what_was_allowed() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = scene.host().await?;
    let too_many: Vec<u32> = (0..10_000).collect();
    for (what, body, named) in [
        (
            "broken JSON",
            "{\"user_id\": 1, \"item_ids\": [".to_owned(),
            "JSON",
        ),
        (
            "a negative user",
            json!({ "user_id": -5, "item_ids": [1] }).to_string(),
            "user_id",
        ),
        (
            "a negative item",
            json!({ "user_id": 5, "item_ids": [-1] }).to_string(),
            "item_ids",
        ),
        (
            "10,000 items",
            json!({ "user_id": 5, "item_ids": too_many }).to_string(),
            "item_ids",
        ),
        (
            "no items",
            json!({ "user_id": 5, "item_ids": [] }).to_string(),
            "item_ids",
        ),
        ("no user", json!({ "item_ids": [1] }).to_string(), "user_id"),
        (
            "text for a user",
            json!({ "user_id": "me", "item_ids": [1] }).to_string(),
            "user_id",
        ),
    ] {
        let (status, answer) = host.api.post_raw("/predict", body.into_bytes()).await?;
        assert!((400..500).contains(&status), "{what}: {status} {answer}");
        assert!(
            answer.contains(named),
            "{what}: the answer does not name `{named}`: {answer}"
        );
    }
    let (status, answer) = host
        .api
        .post_raw(
            "/predict",
            json!({ "user_id": 5, "item_ids": [1] }).to_string().into_bytes(),
        )
        .await?;
    assert_eq!(status, 503, "there is no model yet: {answer}");
    assert!(answer.contains("ranker"), "{answer}");
    let (status, answer) = host.api.post_raw("/no/such/route", Vec::new()).await?;
    assert_eq!(status, 404, "{answer}");
    still_well(&mut host).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_manifest_is_refused_and_what_runs_goes_on() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = scene.host().await?;
    let bad = scene.file(
        "bad.toml",
        "[app]\nname = \"bad\"\ncolour = \"blue\"\n[[function]]\nname = \"x\"\n",
    )?;
    let (status, answer) = host
        .api
        .post_raw(
            "/api/v1/deploy",
            json!({ "manifest": bad }).to_string().into_bytes(),
        )
        .await?;
    assert!((400..500).contains(&status), "{status} {answer}");
    assert!(
        answer.contains("colour") && answer.contains("component"),
        "every mistake in one go: {answer}"
    );
    still_well(&mut host).await
}

fn assert_dead_with(run: &Run, named: &[&str]) {
    assert_eq!(run.state.as_deref(), Some("dead"), "{run:#?}");
    let reason = run
        .steps
        .iter()
        .find_map(|step| step.reason.clone())
        .unwrap_or_default();
    for name in named {
        assert!(
            reason.contains(name),
            "the reason does not name `{name}`: {reason}"
        );
    }
    let attempts = run.steps.iter().map(|step| step.attempt).max();
    assert_eq!(
        attempts,
        Some(1),
        "what is wrong with the data is not tried again: {run:#?}"
    );
}

async fn still_well(host: &mut Host) -> Result<()> {
    assert!(host.is_running());
    let health = host.api.get("/health").await?;
    assert_eq!(health["status"], "ok");
    Ok(())
}
