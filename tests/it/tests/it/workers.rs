//! Workers that no host started: each dials its host with a token, and does one part of the work.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tidegate_harness::{Api, Host, Install, Options, until};
use tidegate_it::clients::host_with_models;
use tidegate_it::observers::families;
use tidegate_it::{Authority, Flavour, Scene, interactions, says, settled_run};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const TOKEN: &str = "a-token-of-this-test";
const LIMIT: Duration = Duration::from_secs(60);

/// A worker's process; killed when dropped.
struct Worker {
    health: Api,
    process: Child,
    /// What it said since it told where its health is.
    said: Arc<Mutex<Vec<String>>>,
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
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap().push(line);
            }
        });
        Ok(Self {
            health: Api::new(&format!("http://{address}"), None)?,
            process,
            said,
        })
    }

    /// Waits until it says something; the whole line.
    async fn says(&self, part: &str) -> Result<String> {
        until(&format!("a worker that says `{part}`"), LIMIT, async || {
            let said = self.said.lock().unwrap();
            Ok(said.iter().find(|line| line.contains(part)).cloned())
        })
        .await
    }

    async fn answers_with(&self, status: u16) -> Result<()> {
        until(&format!("health {status}"), LIMIT, async || {
            let (found, _) = self.health.get_raw("/health").await?;
            Ok((found == status).then_some(()))
        })
        .await
    }
}

/// A host that starts no worker, and takes those who know the token in a file; `more` is said of workers besides.
async fn host(scene: &Scene, more: &str) -> Result<Host> {
    let token = scene.file("worker-token", &format!("{TOKEN}\n"))?;
    let config = format!("[worker]\nstart = false\ntoken_file = {token:?}\n{more}");
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
    let mut host = host(&scene, "").await?;
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

/// What a host is told of certificates.
fn tls_of_workers(authority: &Authority<'_>) -> Result<String> {
    let [certificate, key] = authority.certify("host")?;
    let ca = &authority.file;
    Ok(format!(
        "cert_file = {certificate:?}\nkey_file = {key:?}\nca_file = {ca:?}\n"
    ))
}

/// What a worker is told of them: its host is trusted by the certificate that the host has made.
fn tls_of_a_worker(host: &Host, identity: [impl AsRef<Path>; 2], authority: &Authority<'_>) -> Vec<String> {
    let [certificate, key] = identity.map(|file| file.as_ref().display().to_string());
    let (gateway, ca) = (&host.ready.gateway_tls, host.ready.ca.display());
    let authority = authority.file.display();
    let told = format!(
        "--host {gateway} --host-ca {ca} --cert-file {certificate} --key-file {key} --ca-file {authority}"
    );
    told.split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn host_and_worker_show_each_other_certificates_and_nobody_else_is_let_in() -> Result<()> {
    let scene = Scene::new()?;
    let authority = Authority::new(&scene, "own")?;
    let host = host(&scene, &tls_of_workers(&authority)?).await?;
    let told = tls_of_a_worker(&host, authority.certify("127.0.0.1")?, &authority);
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let worker = Worker::start(&told).await?;
    worker.answers_with(200).await?;

    let rows = interactions(4000, 3, Flavour::Clean);
    host.bucket("data").put("raw/near.csv", rows).await?;
    let run = settled_run(&host, "raw/near.csv").await?;
    assert_eq!(run.state.as_deref(), Some("done"), "{run:#?}");
    let asked = json!({ "user_id": 1, "item_ids": [0, 1, 2] });
    let answer = host.https()?.post("/predict", &asked).await?;
    assert_eq!(
        answer["predictions"].as_array().map(Vec::len),
        Some(3),
        "{answer}"
    );

    let registered = worker.says("inference=").await?;
    let (_, address) = registered.split_once("inference=").context("no address")?;
    let address = address.split(' ').next().unwrap_or_default();
    let ca = std::fs::read(&authority.file)?;
    let stranger = Api::new(&format!("https://{address}"), Some(&ca))?;
    ensure!(
        stranger.get_raw("/").await.is_err(),
        "a worker answered a stranger"
    );
    worker.says("a client's certificate is refused").await?;
    ensure!(
        Api::new(&format!("http://{address}"), None)?
            .get_raw("/")
            .await
            .is_err(),
        "a worker answered without TLS"
    );
    let bare = ["--host", &host.ready.gateway];
    let bare = Worker::start(&bare).await?;
    bare.says("takes workers with a certificate of `worker.ca_file`")
        .await?;
    bare.answers_with(503).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_authority_is_refused_and_one_of_another_name_is_not_asked() -> Result<()> {
    let scene = Scene::new()?;
    let (own, other) = (Authority::new(&scene, "own")?, Authority::new(&scene, "other")?);
    let config = format!(
        "[worker]\nstart = false\ntoken = {TOKEN:?}\n{}",
        tls_of_workers(&own)?
    );
    let host = host_with_models(&scene, &config).await?;
    let told = tls_of_a_worker(&host, other.certify("127.0.0.1")?, &own);
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let stranger = Worker::start(&told).await?;
    until("a host that refuses a certificate", LIMIT, async || {
        let log = std::fs::read_to_string(host.log_file())?;
        Ok(log.contains("a client's certificate is refused").then_some(()))
    })
    .await?;
    stranger.says("trying again").await?;
    stranger.answers_with(503).await?;

    let told = tls_of_a_worker(&host, own.certify("elsewhere")?, &own);
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let misnamed = Worker::start(&told).await?;
    misnamed.answers_with(200).await?;
    let rows =
        json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] }] });
    let asked = rows.to_string().into_bytes();
    let (status, answer) = host.api.post_raw("/v2/models/sums/infer", asked).await?;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("the worker is refused"), "{answer}");
    assert!(answer.contains("not valid for name"), "{answer}");
    Ok(())
}

/// Submits the job that its event asks for.
const SUBMITTER: &str = r#"
[app]
name = "submitter"

[[function]]
name = "submitter"
component = "tidegate_guests_jobs.wasm"
trigger = [{ event = "JobAsked" }]
grants.jobs.submit = ["predict.batch"]
grants.events.emit = ["JobEnded"]
"#;

/// What `/metrics` tells of workers that are wanted for one part of the work.
async fn wanted(host: &Host, part: &str) -> Result<f64> {
    let families = families(&host.api.get_text("/metrics").await?).await?;
    let samples = families["tidegate_workers_wanted"]["samples"].as_array();
    let samples = samples.into_iter().flatten();
    let of_part = samples.filter(|sample| sample[1]["part"] == part);
    Ok(of_part.filter_map(|sample| sample[2].as_f64()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_wanted_while_jobs_or_requests_wait_and_none_after_that() -> Result<()> {
    let scene = Scene::new()?;
    let config = format!("[worker]\nstart = false\ntoken = {TOKEN:?}\ninfer_wait = \"60s\"\n");
    let host = host_with_models(&scene, &config).await?;
    assert_eq!(
        (wanted(&host, "jobs").await?, wanted(&host, "inference").await?),
        (0.0, 0.0)
    );
    says(
        &host,
        &[
            "deploy",
            &scene.file("submitter.toml", SUBMITTER)?.display().to_string(),
        ],
    )?;
    // What the job says of itself is nonsense, so that whoever leases it ends it at once.
    let nonsense = json!({ "kind": "predict.batch", "config": {}, "reads": [], "writes": [] });
    for _ in 0..2 {
        host.api.event("JobAsked", nonsense.clone()).await?;
    }
    until("two workers that are wanted", LIMIT, async || {
        Ok((wanted(&host, "jobs").await? == 2.0).then_some(()))
    })
    .await?;
    let asking = ask(&host, 1);
    let working = async {
        until("a worker that is wanted for a request", LIMIT, async || {
            Ok((wanted(&host, "inference").await? == 1.0).then_some(()))
        })
        .await?;
        let worker = Worker::start(&["--host", &host.ready.gateway]).await?;
        until("no worker that is wanted for jobs", LIMIT, async || {
            Ok((wanted(&host, "jobs").await? == 0.0).then_some(()))
        })
        .await?;
        anyhow::Ok(worker)
    };
    let (_worker, ()) = tokio::try_join!(working, asking)?;
    Ok(())
}
