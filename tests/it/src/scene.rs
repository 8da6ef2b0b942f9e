//! A folder for one test: its manifest, its host's data.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tidegate_harness::{Host, Manifest, Options, Run, until};

/// A small run takes seconds; a busy machine may take many times that.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// Hears of every promotion, and fails as it cannot make sense of one; that it was called is what counts.
pub const WITNESS: &str = "witness";
const WITNESS_FUNCTION: &str = r#"
name = "witness"
component = "tidegate_guests.wasm"
trigger = [{ event = "ModelPromoted" }]
grants.objects.read = ["data/nothing/"]
grants.state.read = ["nothing"]
grants.events.emit = ["Nothing"]
retry = { max_attempts = 1 }
"#;

/// The folder of one test, removed at its end.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
}

impl Scene {
    /// An empty folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tidegate-it-")
            .tempdir()
            .context("no temporary folder")?;
        Ok(Self { folder })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }

    /// The feed-ranking app with a model that is trained in a second or two.
    pub fn small_app(&self) -> Result<PathBuf> {
        small_manifest("4")?.write(&self.path("tidegate.toml"))
    }

    /// The same with a longer training, and the function [`WITNESS`] that hears of every promotion.
    pub fn witnessed_app(&self) -> Result<PathBuf> {
        small_manifest("16")?
            .with_function(WITNESS_FUNCTION)?
            .write(&self.path("tidegate.toml"))
    }

    /// How to start a host whose data stays here.
    pub fn options(&self, manifest: PathBuf) -> Options {
        Options {
            manifest: Some(manifest),
            data_dir: Some(self.path("data")),
            ..Options::default()
        }
    }

    /// A host with the small app.
    pub async fn host(&self) -> Result<Host> {
        Host::start(self.options(self.small_app()?)).await
    }
}

fn small_manifest(epochs: &str) -> Result<Manifest> {
    Manifest::feed_ranking()?
        .variable("train", "embedding_dim", "16")?
        .variable("train", "towers", "32,16")?
        .variable("train", "batch_size", "256")?
        .variable("train", "patience", epochs)?
        .variable("train", "max_epochs", epochs)
}

/// Waits until nothing is left to do in the run that the write of `key` set off.
pub async fn settled_run(host: &Host, key: &str) -> Result<Run> {
    let what = format!("the run of `{key}`");
    let settled = until(&what, RUN_LIMIT, async || {
        let runs = host.api.runs().await?;
        let found = runs.into_iter().find(|run| run.subject.as_deref() == Some(key));
        Ok(found.filter(|run| run.state.as_deref() != Some("running")))
    });
    let run = match settled.await {
        Ok(run) => run,
        Err(error) => return Err(error.context(format!("the host's log ends:\n{}", host.log_tail()))),
    };
    let steps = host.api.run(&run.run).await?.steps;
    Ok(Run { steps, ..run })
}
