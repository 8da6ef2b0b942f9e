//! Workers that no host started: each dials its host with a token, and does one part of the work.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tidegate_harness::{Api, Host, Install, Options, until};
use tidegate_it::clients::host_with_models;
use tidegate_it::observers::families;
use tidegate_it::{Flavour, Scene, interactions, settled_run};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const TOKEN: &str = "a-token-of-this-test";
const LIMIT: Duration = Duration::from_secs(60);

/// A worker's process; killed when dropped.
struct Worker {
    health: Api,
    process: Child,
}

impl Worker {
    async fn start(arguments: &[&str]) -> Result<Self> {
        let program = Install::find()?.tidegate.with_file_name("tidegate-worker");
        let mut process = Command::new(&program)
            .args(["--standalone", "--health", "127.0.0.1:0"])
            .args(arguments)
            .env("TIDEGATE_WORKER_TOKEN", TOKEN)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        let mut lines = BufReader::new(process.stderr.take().context("no output")?).lines();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, address)) = line.split_once("health is told on http://") {
                    return Ok(address.trim().to_owned());
                }
            }
            anyhow::bail!("the worker ended before it told where its health is")
        };
        let address = tokio::time::timeout(LIMIT, told)
            .await
            .context("the worker tells nothing")??;
        // Whatever else it says must find a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            health: Api::new(&format!("http://{address}"), None)?,
            process,
        })
    }

    async fn answers_with(&self, status: u16) -> Result<()> {
        until(&format!("health {status}"), LIMIT, async || {
            let (found, _) = self.health.get_raw("/health").await?;
            Ok((found == status).then_some(()))
        })
        .await
    }
}

/// A host that starts no worker, and takes those who know the token in a file.
async fn host(scene: &Scene) -> Result<Host> {
    let token = scene.file("worker-token", &format!("{TOKEN}\n"))?;
    let config = format!("[worker]\nstart = false\ntoken_file = {token:?}\n");
    let config = scene.file("host.toml", &config)?;
    Host::start(Options {
        env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
        ..scene.options(scene.small_app()?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_trains_over_tls_while_another_answers_inference() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = host(&scene).await?;
    let ca = host.ready.ca.display().to_string();
    let tls = ["--host", &host.ready.gateway_tls, "--host-ca", &ca];
    let trainer = Worker::start(&[tls.as_slice(), &["--only", "jobs"]].concat()).await?;
    let beside = ["--host", &host.ready.gateway, "--only", "inference"];
    let answerer = Worker::start(&beside).await?;
    trainer.answers_with(200).await?;
    answerer.answers_with(200).await?;

    let rows = interactions(4000, 3, Flavour::Clean);
    host.bucket("data").put("raw/far.csv", rows).await?;
    let run = settled_run(&host, "raw/far.csv").await?;
    assert_eq!(run.state.as_deref(), Some("done"), "{run:#?}");
    let asked = json!({ "user_id": 1, "item_ids": [0, 1, 2] });
    let answer = host.https()?.post("/predict", &asked).await?;
    assert_eq!(
        answer["predictions"].as_array().map(Vec::len),
        Some(3),
        "{answer}"
    );

    host.interrupt()?;
    let status = host.exited().await?;
    assert!(status.success(), "{status}; {}", host.log_tail());
    trainer.answers_with(503).await?;
    answerer.answers_with(503).await
}

/// Asks the model `sums` so often, many times at once; every answer must be there and right.
async fn ask(host: &Host, times: usize) -> Result<()> {
    let rows =
        json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let asking = stream::iter(0..times).map(|_| host.api.post("/v2/models/sums/infer", &rows));
    let asking = asking.buffer_unordered(32);
    let each = asking.try_for_each(async |answer| {
        ensure!(answer["outputs"][0]["data"] == json!([10.0]), "{answer}");
        Ok(())
    });
    each.await
}

/// How many workers answered requests of `sums`.
async fn answering(host: &Host) -> Result<usize> {
    let families = families(&host.api.get_text("/metrics").await?).await?;
    let samples = families["tidegate_model_requests"]["samples"]
        .as_array()
        .into_iter()
        .flatten();
    let answered = samples.filter(|sample| sample[1]["outcome"] == "done" && sample[2].as_f64() > Some(0.0));
    let workers: BTreeSet<String> = answered.map(|sample| sample[1]["worker"].to_string()).collect();
    Ok(workers.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_shared_by_two_workers_and_go_on_when_one_is_killed() -> Result<()> {
    let scene = Scene::new()?;
    let config = format!("[worker]\nstart = false\ntoken = {TOKEN:?}\n");
    let host = host_with_models(&scene, &config).await?;
    let arguments = ["--host", &host.ready.gateway, "--only", "inference"];
    let first = Worker::start(&arguments).await?;
    let mut second = Worker::start(&arguments).await?;
    first.answers_with(200).await?;
    second.answers_with(200).await?;
    until("answers of both workers", LIMIT, async || {
        ask(&host, 64).await?;
        Ok((answering(&host).await? == 2).then_some(()))
    })
    .await?;
    let killed = async { second.process.kill().await.context("cannot kill a worker") };
    tokio::try_join!(ask(&host, 400), killed)?;
    until("answers of the worker that is left", LIMIT, async || {
        Ok((answering(&host).await? == 1).then_some(()))
    })
    .await?;
    ask(&host, 64).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_nothing_to_do_ends_and_a_request_starts_it_again() -> Result<()> {
    let scene = Scene::new()?;
    let host = host_with_models(&scene, "[worker]\nidle_stop = \"1s\"\n").await?;
    let is = async |wanted: &str| {
        until(&format!("a worker that is {wanted}"), LIMIT, async || {
            let health = host.api.get("/health").await?;
            Ok((health["worker"] == wanted).then_some(()))
        })
        .await
    };
    is("idle").await?;
    assert_eq!(host.api.get_raw("/v2/health/ready").await?.0, 200);
    ask(&host, 1).await?;
    is("idle").await?;
    ask(&host, 1).await?;
    is("idle").await?;
    let starts = host.api.get_text("/metrics").await?;
    assert!(starts.contains("tidegate_worker_starts_total 2"), "{starts}");
    Ok(())
}
