//! SIGKILL at any point of a run, then a start on the same data: the same model, promoted once.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidegate_harness::{Host, Run};
use tidegate_it::{Flavour, Scene, WITNESS, interactions, settled_run};

const KEY: &str = "raw/crash.csv";
const ROWS: u64 = 6000;
const HOST_KILLS: u32 = 20;
const WORKER_KILLS: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_twenty_points_of_a_run_the_host_ends_in_the_same_model() -> Result<()> {
    let reference = Reference::make().await?;
    let mut amid = 0;
    for kill in 0..HOST_KILLS {
        let after = reference.took * (2 * kill + 1) / (2 * HOST_KILLS);
        let outcome = reference.again(async |host| {
            tokio::time::sleep(after).await;
            let running = is_running(host).await?;
            host.kill_and_restart().await?;
            Ok(running)
        });
        let hit = outcome
            .await
            .with_context(|| format!("the host was killed {after:?} after the upload"))?;
        amid += u32::from(hit);
    }
    ensure!(
        2 * amid > HOST_KILLS,
        "only {amid} of {HOST_KILLS} kills hit a run that was not over yet"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_five_points_of_a_training_the_worker_ends_in_the_same_model() -> Result<()> {
    let reference = Reference::make().await?;
    let mut amid = 0;
    for kill in 0..WORKER_KILLS {
        let outcome = reference.again(async |host| {
            let mut notices = host.api.follow().await?;
            let begun = |notice: &tidegate_harness::Notice| notice.kind == "job";
            notices
                .wait_for("the training", Duration::from_secs(120), begun)
                .await?;
            // The reference may have trained beside other tests: half its time is surely amid a training.
            tokio::time::sleep(reference.training * (2 * kill + 1) / (4 * WORKER_KILLS)).await;
            let running = is_running(host).await?;
            ensure!(host.kill_worker()?, "the host has no worker");
            Ok(running)
        });
        let hit = outcome
            .await
            .with_context(|| format!("kill {kill} of the worker"))?;
        amid += u32::from(hit);
    }
    ensure!(
        2 * amid > WORKER_KILLS,
        "only {amid} of {WORKER_KILLS} kills hit a training"
    );
    Ok(())
}

/// What a run that nobody disturbs ends in, and a host's data to begin such a run with.
struct Reference {
    scene: Scene,
    model: Value,
    took: Duration,
    training: Duration,
    repeats: AtomicU32,
}

impl Reference {
    async fn make() -> Result<Self> {
        let scene = Scene::new()?;
        // A first host compiles the components, so that the runs to be killed begin at once.
        let mut host = Host::start(scene.options(scene.witnessed_app()?)).await?;
        host.interrupt()?;
        host.exited().await?;
        let (model, took, training) = {
            let mut host = begin(&scene, "reference").await?;
            let started = Instant::now();
            let run = finish(&mut host).await?;
            let training = run
                .steps
                .iter()
                .filter(|step| step.event_type.starts_with("train."))
                .find_map(|step| step.duration_ms);
            let training = Duration::from_secs_f64(training.unwrap_or(1000.0) / 1000.0);
            (outcome(&host, &run).await?, started.elapsed(), training)
        };
        Ok(Self {
            scene,
            model,
            took,
            training,
            repeats: AtomicU32::new(0),
        })
    }

    /// A run that is disturbed, which must end in the same; whether it was disturbed before its end.
    async fn again(&self, disturb: impl AsyncFnOnce(&mut Host) -> Result<bool>) -> Result<bool> {
        let name = format!("data-{}", self.repeats.fetch_add(1, Ordering::Relaxed));
        let mut host = begin(&self.scene, &name).await?;
        let hit = disturb(&mut host).await?;
        let run = finish(&mut host).await?;
        let model = outcome(&host, &run).await?;
        ensure!(
            model == self.model,
            "the model is {model:#}\nand without the kill it was {:#}",
            self.model
        );
        drop(host);
        std::fs::remove_dir_all(self.scene.path(&name)).context("cannot remove the host's data")?;
        Ok(hit)
    }
}

/// Starts a host on a fresh copy of the prepared data, and uploads.
async fn begin(scene: &Scene, name: &str) -> Result<Host> {
    let data = scene.path(name);
    copy_folder(&scene.path("data"), &data)?;
    let mut options = scene.options(scene.path("tidegate.toml"));
    options.data_dir = Some(data);
    let host = Host::start(options).await?;
    host.bucket("data")
        .put(KEY, interactions(ROWS, 11, Flavour::Clean))
        .await?;
    Ok(host)
}

async fn is_running(host: &Host) -> Result<bool> {
    let runs = host.api.runs().await?;
    Ok(runs.iter().any(|run| run.state.as_deref() == Some("running")))
}

async fn finish(host: &mut Host) -> Result<Run> {
    let run = settled_run(host, KEY).await?;
    ensure!(host.is_running(), "the host ended: {}", host.log_tail());
    let undone = run
        .steps
        .iter()
        .find(|step| step.state != "done" && step.function.as_deref() != Some(WITNESS));
    ensure!(undone.is_none(), "{undone:#?}");
    Ok(run)
}

/// What must not depend on kills: the registered metrics, the alias, and one promotion.
async fn outcome(host: &Host, run: &Run) -> Result<Value> {
    let promotions = run
        .steps
        .iter()
        .filter(|step| step.function.as_deref() == Some(WITNESS))
        .count();
    ensure!(promotions == 1, "{promotions} promotions: {:#?}", run.steps);
    let model = host.api.model("ranker").await?;
    let versions = model["versions"].as_array().cloned().unwrap_or_default();
    ensure!(versions.len() == 1, "not one version: {model:#}");
    Ok(serde_json::json!({ "metrics": versions[0]["metrics"], "aliases": model["aliases"] }))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot list `{}`", from.display()))? {
        let entry = entry.context("cannot list")?;
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &place)?;
        } else {
            std::fs::copy(entry.path(), &place)
                .with_context(|| format!("cannot copy `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}
