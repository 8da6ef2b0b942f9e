//! A real platform on the embedded store, in a folder of its own, and ways to wait for what it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use serde_json::Value;
use tidegate_runtime::dispatch::{DEAD, DeadLetter};
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::records::{RunDetail, RunState, StepRecord};
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Condition, Order, Publication};
use tidegate_runtime::{Platform, PlatformConfig, Traffic};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that does what its event says, under tight limits, and one that hears of it.
const ODD: &str = r#"
[app]
name = "odd"

[[function]]
name = "odd"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }]
grants.objects.read = ["data/in/", "data/out/"]
grants.objects.write = ["data/out/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
limits = { memory = "32MiB", wall_time = "2s", cpu_time = "500ms", handles = 100, host_calls = 10000, log_bytes = "4KiB", effects_count = 1000 }
retry = { max_attempts = 3, initial = "10ms" }

[[function]]
name = "echo"
component = "tidegate_guests.wasm"
trigger = [{ event = "Echo" }, { object = { bucket = "data", prefix = "out/" } }]
grants.objects.read = ["data/out/"]
grants.state.write = ["counters"]
grants.events.emit = ["Never"]
retry = { max_attempts = 1 }
"#;

pub struct Bench {
    pub folder: tempfile::TempDir,
    pub platform: Arc<Platform>,
}

impl Bench {
    /// A platform on which an app is deployed.
    pub async fn with(manifest: &str) -> Self {
        Self::configured(manifest, |_| {}).await
    }

    /// The same, configured.
    pub async fn configured(manifest: &str, configure: impl FnOnce(&mut PlatformConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let platform = open(folder.path(), configure).await;
        let bench = Self { folder, platform };
        bench
            .deploy(manifest)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        bench
    }

    /// A platform with the function `odd`, to be run by events.
    pub async fn odd() -> Self {
        Self::with(ODD).await
    }

    /// Drains the platform, and starts another over its store.
    pub async fn restart(self, configure: impl FnOnce(&mut PlatformConfig)) -> Self {
        self.platform.drain(PATIENCE).await;
        self.start_again(configure).await
    }

    /// Starts another platform over the store of one that was drained.
    pub async fn start_again(self, configure: impl FnOnce(&mut PlatformConfig)) -> Self {
        let Self { folder, platform } = self;
        drop(platform);
        let platform = open(folder.path(), configure).await;
        Self { folder, platform }
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
    /// Sends a deed to `odd`, and waits for its run to end.
    pub async fn run(&self, deed: Value) -> RunDetail {
        let run = self.send("Do", &deed).await;
        self.run_until(&run, |run| run.state != RunState::Running).await
    }

    /// The reason for which a deed is dead after one attempt or more.
    pub async fn reason(&self, deed: Value) -> String {
        let run = self.run(deed).await;
        assert_eq!(run.state, RunState::Dead, "{run:?}");
        run.steps[0].reason.clone().unwrap()
    }

    /// The letters of events that were given up.
    pub async fn dead(&self) -> Vec<DeadLetter> {
        let store = self.platform.store();
        let page = store.query(DEAD, "", None, 100, Order::Ascending).await.unwrap();
        let letters = page.entries.iter();
        letters
            .map(|(_, row)| serde_json::from_slice(&row.value).unwrap())
            .collect()
    }

    /// Writes an object of the bucket `data`.
    pub async fn object(&self, key: &str) {
        let mut stage = self.platform.store().stage().await.unwrap();
        stage.write(Bytes::from_static(b"text")).await.unwrap();
        let publication = Publication {
            bucket: "data".into(),
            key: key.into(),
            staged: Some(stage.finish().await.unwrap()),
            content_type: None,
            user: BTreeMap::new(),
            condition: Condition::None,
        };
        self.platform.publish(publication).await.unwrap();
    }

    /// Status and body of the answer to a request.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let request = http::Request::get(format!("http://localhost{path}"))
            .header("x-request-id", "by-the-test")
            .body(body.boxed_unsync())
            .unwrap();
        let routed = self.platform.route(&request);
        let routed = routed.unwrap_or_else(|_| panic!("no route"));
        let response = self.platform.http(routed, request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

async fn open(folder: &Path, configure: impl FnOnce(&mut PlatformConfig)) -> Arc<Platform> {
    // What ran in a platform before holds the store until it has ended.
    let opened = until("the store", async || Embedded::open(&folder.join("data")).ok());
    let mut config = PlatformConfig::new(folder.join("data"));
    config.component_dirs = vec![components()];
    configure(&mut config);
    Platform::open(config, Arc::new(opened.await), Arc::new(NoInference))
        .await
        .unwrap()
}

/// Asks until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The folder that `cargo xtask functions` fills.
pub fn components() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("functions");
    assert!(
        folder.join("tidegate_guests_tasks.wasm").exists(),
        "`{}` has no guests; run `cargo xtask functions`",
        folder.display()
    );
    folder
}
