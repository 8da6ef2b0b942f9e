//! Trainers that somebody brings along, and searches of hyper-parameters, on the real host and its worker.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Host, Options, until, workspace_root};
use tidegate_it::{Scene, says, tabular_csv, tabular_parquet};

const LIMIT: Duration = Duration::from_secs(240);

/// A host with the app `search`, whose worker may run a program of Python.
async fn host(scene: &Scene, python: &str, program: &str) -> Result<Host> {
    let program = workspace_root().join("gpu-worker/examples").join(program);
    let config = format!("[worker.commands]\nfit = [{python:?}, {program:?}]\n");
    let config = scene.file("host.toml", &config)?;
    let packages = std::env::var("TIDEGATE_CLIENTS");
    let packages = packages.context("`TIDEGATE_CLIENTS` is not set; `cargo xtask test` sets it")?;
    Host::start(Options {
        env: vec![
            ("TIDEGATE_CONFIG".into(), config.display().to_string()),
            ("PYTHONPATH".into(), packages),
            ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
        ],
        ..scene.options(workspace_root().join("functions/search/tidegate.toml"))
    })
    .await
}

/// Asks for a search; its id.
async fn request(host: &Host, search: Value) -> Result<String> {
    let sent = host.api.event("SearchRequested", search).await?;
    Ok(sent["id"].as_str().context("no id")?.to_owned())
}

/// The report of a search, once it has ended.
async fn report(host: &Host, model: &str, search: &str) -> Result<Value> {
    let key = format!("{model}/search/{search}/report.json");
    let found = until("the end of a search", LIMIT, async || {
        let (status, body) = host.api.get_raw(&format!("/api/v1/objects/models/{key}")).await?;
        Ok((status == 200).then_some(body))
    });
    let found = found.await.with_context(|| host.log_tail())?;
    Ok(serde_json::from_str(&found)?)
}

/// Two trials of a program, by its only parameter that matters here; the model of the better one answers.
async fn trains_and_serves(python: &str, program: &str, rates: [f64; 2]) -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene, python, program).await?;
    for (name, rows, seed) in [("train.csv", 600, 1), ("validation.csv", 300, 2)] {
        host.bucket("data")
            .put(&format!("own/{name}"), tabular_csv(rows, seed))
            .await?;
    }
    let search = json!({
        "model": "own", "kind": "train.command", "trials": 2, "seed": 1,
        "config": {
            "command": "fit",
            "inputs": {"train.csv": "data/own/train.csv", "validation.csv": "data/own/validation.csv"},
            "parameters": {"epochs": 40},
        },
        "space": {"parameters.learning_rate": {"uniform": rates}},
    });
    let id = request(&host, search).await?;
    let report = report(&host, "own", &id).await?;
    let best = &report["best"];
    assert_eq!(report["trials"].as_array().map(Vec::len), Some(2), "{report:#}");
    assert!(best["score"].as_f64().is_some_and(|auc| auc > 0.6), "{report:#}");
    let own = host.api.model("own").await?;
    assert_eq!(own["aliases"]["champion"], 1, "{own:#}");
    assert_eq!(own["versions"][0]["artifact"], best["model"]);
    let asked = json!({"inputs": [
        {"name": "features", "shape": [2, 3], "datatype": "FP32", "data": [[0.9, 0.8, 0.0], [-0.9, 0.1, 0.0]]},
    ]});
    let answer = host.api.post("/v2/models/own/infer", &asked).await?;
    let scores = &answer["outputs"][0]["data"];
    assert!(scores[0].as_f64() > scores[1].as_f64(), "{answer}");
    let job = best["job"].as_str().context("no job")?;
    let shown = says(&host, &["jobs", "show", job])?;
    assert!(
        shown.contains("validation_auc") && shown.contains("train.command"),
        "{shown}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_ones_own_trains_and_its_model_is_registered_and_answers() -> Result<()> {
    trains_and_serves("python3", "numpy/train.py", [0.3, 0.6]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_in_pytorch_is_a_job_like_any_other() -> Result<()> {
    match std::env::var("TIDEGATE_TORCH") {
        Ok(python) => trains_and_serves(&python, "pytorch/train.py", [0.02, 0.06]).await,
        Err(_) => {
            eprintln!("skipped: there is no PyTorch; `cargo xtask bench training` installs it");
            Ok(())
        }
    }
}

/// Nine trials of trees, then three with more of them, then one; a third of the depths is not allowed.
fn search() -> Value {
    json!({
        "model": "churn", "kind": "train.gradient-boosting", "trials": 9, "rungs": 3, "seed": 7,
        "config": {"dataset": {"bucket": "data", "prefix": "churn/"}, "features": ["x", "y", "z"], "patience": 1000},
        "space": {
            "learning_rate": {"log_uniform": [0.01, 0.5]},
            "max_depth": {"choice": [2, 4, 99]},
        },
        "resource": {"name": "trees", "least": 10},
    })
}

/// A search on a fresh host, which is killed once in the middle where that is asked for: what is the same of each.
async fn outcome(killed: bool) -> Result<Value> {
    let scene = Scene::new()?;
    let mut host = host(&scene, "python3", "none.py").await?;
    for (name, rows, seed) in [("train", 3000, 1), ("validation", 1000, 2)] {
        let key = format!("churn/{name}.parquet");
        host.bucket("data")
            .put(&key, tabular_parquet(rows, seed)?)
            .await?;
    }
    let id = request(&host, search()).await?;
    if killed {
        until("a trial's end", LIMIT, async || {
            let jobs = host.api.get("/api/v1/jobs").await?;
            let jobs = jobs["jobs"].as_array().context("no list of jobs")?;
            Ok(jobs.iter().any(|job| job["phase"] == "succeeded").then_some(()))
        })
        .await?;
        host.kill().await?;
        host.restart().await?;
    }
    let report = report(&host, "churn", &id).await?;
    let jobs = host.api.get("/api/v1/jobs").await?;
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(13), "{jobs:#}");
    let runs = says(&host, &["runs"])?;
    assert!(runs.contains("TrialDue") && runs.contains("RungEnded"), "{runs}");
    let churn = host.api.model("churn").await?;
    assert_eq!(churn["versions"].as_array().map(Vec::len), Some(1), "{churn:#}");
    assert_eq!(churn["versions"][0]["artifact"], report["best"]["model"]);
    let told = |trial: &Value| {
        json!({
            "rung": trial["rung"], "trial": trial["trial"], "parameters": trial["parameters"], "score": trial["score"],
            "reason": trial["reason"], "model": trial["model"]["sha256"],
        })
    };
    let trials = report["trials"].as_array().context("no trials")?;
    Ok(json!({ "best": told(&report["best"]), "trials": trials.iter().map(told).collect::<Vec<_>>() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_ends_with_its_best_model_the_same_when_its_host_is_killed() -> Result<()> {
    let whole = outcome(false).await?;
    let trials = whole["trials"].as_array().context("no trials")?;
    let of_rung = |rung: u64| trials.iter().filter(move |trial| trial["rung"] == rung);
    assert_eq!(
        [0, 1, 2].map(|rung| of_rung(rung).count()),
        [9, 3, 1],
        "{whole:#}"
    );
    let failed: Vec<&Value> = trials.iter().filter(|trial| trial["score"].is_null()).collect();
    assert!(!failed.is_empty(), "{whole:#}");
    for trial in failed {
        let reason = trial["reason"].as_str().unwrap_or_default();
        assert!(
            trial["rung"] == 0 && reason.contains("`max_depth`: found 99"),
            "{trial:#}"
        );
    }
    let mut scores: Vec<f64> = of_rung(0).filter_map(|trial| trial["score"].as_f64()).collect();
    scores.sort_by(|one, other| other.total_cmp(one));
    let went_on = of_rung(1).filter_map(|trial| trial["trial"].as_u64());
    for number in went_on {
        let before = of_rung(0).find(|trial| trial["trial"] == number);
        let score = before.and_then(|trial| trial["score"].as_f64());
        assert!(score >= scores.get(2).copied(), "{number}: {whole:#}");
    }
    assert_eq!(whole["best"]["rung"], 2);
    assert_eq!(outcome(true).await?, whole);
    Ok(())
}
