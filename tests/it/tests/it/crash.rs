//! SIGKILL at any point of a run, then a start on the same data: the same model, promoted once.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidegate_harness::{Follower, Host, Notice, Run};
use tidegate_it::{Flavour, Scene, WITNESS, interactions, settled_run};

const KEY: &str = "raw/crash.csv";
const ROWS: u64 = 6000;
/// A busy machine may take long to come to the step that is aimed at.
const AIM_LIMIT: Duration = Duration::from_secs(240);

/// Where in a run the host is killed: as soon as it tells of this. A clock would hit another place on every
/// machine.
const HOST_KILLS: [Aim; 20] = [
    Aim::Step("started", "ingest"),
    Aim::Step("done", "ingest"),
    Aim::Step("started", "validate"),
    Aim::Step("done", "validate"),
    Aim::Step("started", "features"),
    Aim::Step("done", "features"),
    Aim::Step("started", "train"),
    Aim::Step("done", "train"),
    Aim::Job("running"),
    Aim::Trained(1),
    Aim::Trained(2),
    Aim::Trained(3),
    Aim::Trained(4),
    Aim::Trained(5),
    Aim::Trained(6),
    Aim::Trained(8),
    Aim::Job("succeeded"),
    Aim::Step("started", "evaluate"),
    Aim::Step("done", "evaluate"),
    Aim::Step("started", WITNESS),
];
/// The same for the worker: all while it trains.
const WORKER_KILLS: [Aim; 5] = [
    Aim::Job("running"),
    Aim::Trained(1),
    Aim::Trained(3),
    Aim::Trained(5),
    Aim::Trained(8),
];
/// What [`Aim::Trained`] counts in: a training's 16 epochs.
const PARTS: u64 = 16;

/// A point of a run that the host tells of.
#[derive(Debug, Clone, Copy)]
enum Aim {
    /// A function's step: `started` or `done`.
    Step(&'static str, &'static str),
    /// The training's job: `running` or `succeeded`.
    Job(&'static str),
    /// So many sixteenths of the training.
    Trained(u64),
}

impl Aim {
    fn is(self, notice: &Notice) -> bool {
        match self {
            Self::Step(kind, function) => notice.kind == kind && notice.function.as_deref() == Some(function),
            Self::Job(phase) => notice.kind == "job" && notice.subject.as_deref() == Some(phase),
            Self::Trained(parts) => {
                let (done, total) = (notice.done.unwrap_or(0), notice.total.unwrap_or(0));
                let training = notice.kind == "progress" && notice.event_type.starts_with("train.");
                training && total > 0 && done * PARTS >= parts * total
            }
        }
    }

    async fn reached(self, notices: &mut Follower) -> Result<()> {
        let what = format!("{self:?}");
        notices
            .wait_for(&what, AIM_LIMIT, |notice| self.is(notice))
            .await
            .map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_twenty_points_of_a_run_the_host_ends_in_the_same_model() -> Result<()> {
    let reference = Reference::make().await?;
    let mut amid = 0;
    for aim in HOST_KILLS {
        let mut killed = 0;
        let outcome = reference.again(async |host, notices| {
            aim.reached(notices).await?;
            host.kill().await?;
            killed = now();
            host.restart().await
        });
        let run = outcome
            .await
            .with_context(|| format!("the host was killed at {aim:?}"))?;
        amid += usize::from(run.finished.is_some_and(|finished| finished >= killed));
    }
    ensure!(
        2 * amid > HOST_KILLS.len(),
        "only {amid} of {} kills hit a run that was not over yet",
        HOST_KILLS.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_five_points_of_a_training_the_worker_ends_in_the_same_model() -> Result<()> {
    let reference = Reference::make().await?;
    let mut amid = 0;
    for aim in WORKER_KILLS {
        let outcome = reference.again(async |host, notices| {
            aim.reached(notices).await?;
            ensure!(host.kill_worker()?, "the host has no worker");
            Ok(())
        });
        let run = outcome
            .await
            .with_context(|| format!("the worker was killed at {aim:?}"))?;
        let training = run
            .steps
            .iter()
            .find(|step| step.event_type.starts_with("train."));
        amid += usize::from(training.is_some_and(|step| step.attempt > 1));
    }
    ensure!(
        2 * amid > WORKER_KILLS.len(),
        "only {amid} of {} kills hit a training",
        WORKER_KILLS.len()
    );
    Ok(())
}

/// The host's own clock, as it stamps a run's end.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// What a run that nobody disturbs ends in, and a host's data to begin such a run with.
struct Reference {
    scene: Scene,
    model: Value,
    repeats: AtomicU32,
}

impl Reference {
    async fn make() -> Result<Self> {
        let scene = Scene::new()?;
        // A first host compiles the components, so that the runs to be killed begin at once.
        let mut host = Host::start(scene.options(scene.witnessed_app()?)).await?;
        host.interrupt()?;
        host.exited().await?;
        let (mut host, _) = begin(&scene, "reference").await?;
        let run = finish(&mut host).await?;
        let model = outcome(&host, &run).await?;
        drop(host);
        Ok(Self {
            scene,
            model,
            repeats: AtomicU32::new(0),
        })
    }

    /// A run that is disturbed, which must end in the same; how it went.
    async fn again(&self, disturb: impl AsyncFnOnce(&mut Host, &mut Follower) -> Result<()>) -> Result<Run> {
        let name = format!("data-{}", self.repeats.fetch_add(1, Ordering::Relaxed));
        let (mut host, mut notices) = begin(&self.scene, &name).await?;
        disturb(&mut host, &mut notices).await?;
        let run = finish(&mut host).await?;
        let model = outcome(&host, &run).await?;
        ensure!(
            model == self.model,
            "the model is {model:#}\nand without the kill it was {:#}",
            self.model
        );
        drop(host);
        std::fs::remove_dir_all(self.scene.path(&name)).context("cannot remove the host's data")?;
        Ok(run)
    }
}

/// Starts a host on a fresh copy of the prepared data, follows it, and uploads.
async fn begin(scene: &Scene, name: &str) -> Result<(Host, Follower)> {
    let data = scene.path(name);
    copy_folder(&scene.path("data"), &data)?;
    let mut options = scene.options(scene.path("tidegate.toml"));
    options.data_dir = Some(data);
    let host = Host::start(options).await?;
    let notices = host.api.follow().await?;
    host.bucket("data")
        .put(KEY, interactions(ROWS, 11, Flavour::Clean))
        .await?;
    Ok((host, notices))
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
