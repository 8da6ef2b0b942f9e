//! A platform with a manifest, and ways to wait for what it does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::records::{RunDetail, StepRecord};
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::{Platform, PlatformConfig, Traffic};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    pub folder: tempfile::TempDir,
    pub platform: Arc<Platform>,
}

impl Bench {
    /// A platform on which an app is deployed.
    pub async fn with(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(&folder.path().join("data")).unwrap());
        let mut config = PlatformConfig::new(folder.path().join("data"));
        config.component_dirs = vec![components()];
        let platform = Platform::open(config, store, Arc::new(NoInference))
            .await
            .unwrap();
        let bench = Self { folder, platform };
        bench
            .deploy(manifest)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        bench
    }

    /// Deploys an app, or tells what is wrong with it.
    pub async fn deploy(&self, manifest: &str) -> Result<(), String> {
        let file = self.folder.path().join("tidegate.toml");
        std::fs::write(&file, manifest).unwrap();
        let deployed = self.platform.deploy(&file, Traffic::All).await;
        deployed.map(drop).map_err(|error| error.to_string())
    }

    /// Takes in an event; returns its run.
    pub async fn send(&self, kind: &str, data: &Value) -> String {
        let json = Some("application/json".to_owned());
        let data = Bytes::from(data.to_string());
        self.platform.emit(kind, None, json, data).await.unwrap().run
    }

    /// The run, once `reached` holds of it.
    pub async fn run_until(&self, run: &str, reached: impl Fn(&RunDetail) -> bool) -> RunDetail {
        let started = Instant::now();
        loop {
            let detail = self.platform.records().run(run).await.unwrap().unwrap();
            if reached(&detail) {
                return detail;
            }
            assert!(started.elapsed() < PATIENCE, "not there yet: {detail:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The first step of a run, once it has ended.
    pub async fn first_step(&self, run: &str) -> StepRecord {
        let ended = |run: &RunDetail| run.steps.first().is_some_and(|step| step.finished.is_some());
        self.run_until(run, ended).await.steps.remove(0)
    }

    /// A number in the table `counters`.
    pub async fn counter(&self, key: &str) -> Option<u64> {
        let row = self.platform.store().get("counters", key).await.unwrap()?;
        serde_json::from_slice(&row.value).ok()
    }
}

/// The folder that `cargo xtask functions` fills.
fn components() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("functions");
    assert!(
        folder.join("tidegate_guests_batch.wasm").exists(),
        "`{}` has no guests; run `cargo xtask functions`",
        folder.display()
    );
    folder
}
