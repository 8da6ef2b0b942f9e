//! Versions of functions: what makes one, who gets which, how one drains, and the way back.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::platform::{KEPT, LIVE, VersionState};
use tidegate_runtime::records::{StepRecord, StepState};
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::trigger::Split;
use tidegate_runtime::{Platform, PlatformConfig, Traffic};

/// A step and a route, whose settings tell their versions apart.
fn manifest(kind: &str, table: &str) -> String {
    format!(
        r#"
[app]
name = "shop"

[[function]]
name = "step"
component = "tidegate_guests.wasm"
trigger = [{{ event = "{kind}" }}]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
limits = {{ concurrency = 1, wall_time = "20s" }}

[[function]]
name = "page"
component = "hello_http.wasm"
trigger = [{{ http = {{ route = "/hello/{{name}}" }} }}]
grants.state.read = ["{table}"]
"#
    )
}

/// The folder that `cargo xtask functions` fills.
fn components() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("functions");
    assert!(
        folder.join("tidegate_guests.wasm").exists(),
        "`{}` has no guests; run `cargo xtask functions`",
        folder.display()
    );
    folder
}

struct Bench {
    folder: tempfile::TempDir,
    platform: Arc<Platform>,
}

impl Bench {
    /// A platform with version 1 of both functions.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let platform = Self::open(folder.path()).await;
        let bench = Self { folder, platform };
        bench.deploy("Do", "hello", Traffic::All).await;
        bench
    }

    async fn open(folder: &Path) -> Arc<Platform> {
        // What ran in the platform before holds the store until it has ended.
        let store = until(async || Embedded::open(&folder.join("data")).ok()).await;
        let mut config = PlatformConfig::new(folder.join("data"));
        config.component_dirs = vec![components()];
        Platform::open(config, Arc::new(store), Arc::new(NoInference))
            .await
            .unwrap()
    }

    /// Ends the platform at once, and starts another over its store.
    async fn restart(self) -> Self {
        let Self { folder, platform } = self;
        platform.drain(Duration::from_millis(1)).await;
        drop(platform);
        let platform = Self::open(folder.path()).await;
        Self { folder, platform }
    }

    /// Deploys both functions, and tells their versions.
    async fn deploy(&self, kind: &str, table: &str, traffic: Traffic) -> (u64, u64) {
        let file = self.folder.path().join("tidegate.toml");
        std::fs::write(&file, manifest(kind, table)).unwrap();
        let deployed = self.platform.deploy(&file, traffic).await;
        let deployed = deployed.unwrap_or_else(|error| panic!("{error}"));
        let version = |name: &str| {
            let found = deployed.functions.iter().find(|function| function.name == name);
            found.unwrap().version
        };
        (version("step"), version("page"))
    }

    async fn send(&self, kind: &str, deed: Value) -> String {
        let json = Some("application/json".to_owned());
        let data = Bytes::from(deed.to_string());
        self.platform.emit(kind, None, json, data).await.unwrap().run
    }

    /// The one step of a run, when it has come to a state.
    async fn step(&self, run: &str, state: StepState) -> StepRecord {
        until(async || {
            let run = self.platform.records().run(run).await.unwrap()?;
            let step = run.steps.into_iter().next()?;
            (step.state == state).then_some(step)
        })
        .await
    }

    /// Status of a request, by which the versions of `page` can be told.
    async fn get(&self, id: &str) -> u16 {
        let body = http_body_util::Empty::new()
            .map_err(|never| match never {})
            .boxed_unsync();
        let request = http::Request::get("/hello/ada")
            .header("x-request-id", id)
            .body(body)
            .unwrap();
        let answer = match self.platform.route(&request) {
            Ok(routed) => self.platform.http(routed, request).await,
            Err(answer) => answer,
        };
        answer.status().as_u16()
    }

    async fn state_of(&self, version: u64) -> VersionState {
        let versions = self.platform.versions(Some("step")).await.unwrap();
        let found = versions.iter().find(|found| found.version == version);
        found.unwrap().state
    }
}

async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn shares(of: &[(u64, u64)]) -> Split {
    Split::try_from(of.iter().copied().collect::<BTreeMap<_, _>>()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_a_new_version_and_what_did_not_keeps_its_number() {
    let bench = Bench::new().await;
    assert_eq!(bench.deploy("Do", "hello", Traffic::All).await, (1, 1));
    assert_eq!(bench.deploy("Other", "hello", Traffic::All).await, (2, 1));
    assert_eq!(bench.deploy("Other", "greeted", Traffic::All).await, (2, 2));
    // What was there before is what it was.
    assert_eq!(bench.deploy("Do", "hello", Traffic::All).await, (1, 1));
    let run = bench.send("Do", json!({ "do": "nothing" })).await;
    assert_eq!(bench.step(&run, StepState::Done).await.version, Some(1));
    let versions = bench.platform.versions(None).await.unwrap();
    let known: Vec<_> = versions
        .iter()
        .map(|v| (v.function.as_str(), v.version))
        .collect();
    assert_eq!(known, [("page", 1), ("page", 2), ("step", 1), ("step", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_flight_stay_on_their_version_which_drains_and_is_unloaded() {
    let bench = Bench::new().await;
    let slow = bench.send("Do", json!({ "do": "sleep", "seconds": 2 })).await;
    let waiting = bench.send("Do", json!({ "do": "flaky", "times": 1 })).await;
    bench.step(&slow, StepState::Running).await;
    assert_eq!(bench.deploy("Other", "hello", Traffic::All).await.0, 2);
    assert_eq!(bench.state_of(1).await, VersionState::Draining);
    let new = bench.send("Other", json!({ "do": "nothing" })).await;
    assert_eq!(bench.step(&new, StepState::Done).await.version, Some(2));
    for run in [&slow, &waiting] {
        assert_eq!(bench.step(run, StepState::Done).await.version, Some(1));
    }
    until(async || (bench.state_of(1).await == VersionState::Kept).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_had_events_left_goes_on_after_a_restart() {
    let bench = Bench::new().await;
    let slow = bench.send("Do", json!({ "do": "sleep", "seconds": 2 })).await;
    bench.step(&slow, StepState::Running).await;
    let waiting = bench.send("Do", json!({ "do": "nothing" })).await;
    bench.deploy("Other", "hello", Traffic::All).await;
    let bench = bench.restart().await;
    assert_eq!(bench.state_of(1).await, VersionState::Draining);
    assert_eq!(bench.state_of(2).await, VersionState::Live);
    for run in [&slow, &waiting] {
        assert_eq!(bench.step(run, StepState::Done).await.version, Some(1));
    }
    until(async || (bench.state_of(1).await == VersionState::Kept).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_share_events_and_requests_and_hold_after_a_restart() {
    let bench = Bench::new().await;
    assert_eq!(bench.deploy("Do", "greeted", Traffic::Unmoved).await, (1, 2));
    assert_eq!(bench.get("before").await, 404, "no traffic moves by itself");
    bench
        .platform
        .set_alias("page", LIVE, shares(&[(1, 50), (2, 50)]))
        .await
        .unwrap();
    let bench = bench.restart().await;
    let mut seen = BTreeMap::new();
    for id in 0..60 {
        let status = bench.get(&id.to_string()).await;
        assert_eq!(
            status,
            bench.get(&id.to_string()).await,
            "the same request falls to the same version"
        );
        *seen.entry(status).or_insert(0) += 1;
    }
    // Version 2 may not read what it is asked for.
    let statuses: Vec<_> = seen.keys().copied().collect();
    assert_eq!(statuses, [404, 503], "{seen:?}");
    assert!(seen.values().all(|count| *count >= 10), "{seen:?}");

    bench.deploy("Do", "hello", Traffic::All).await;
    assert_eq!(bench.deploy("Do2", "hello", Traffic::Unmoved).await.0, 2);
    bench
        .platform
        .set_alias("step", LIVE, shares(&[(1, 50), (2, 50)]))
        .await
        .unwrap();
    let mut versions = BTreeSet::new();
    for _ in 0..40 {
        let accepted = bench
            .platform
            .invoke("step", Bytes::from(r#"{"do":"nothing"}"#))
            .await
            .unwrap();
        versions.extend(bench.step(&accepted.run, StepState::Done).await.version);
    }
    assert_eq!(versions, BTreeSet::from([1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_or_an_app_goes_back_to_what_was_live_before() {
    let bench = Bench::new().await;
    bench.deploy("Other", "greeted", Traffic::All).await;
    assert_eq!(bench.get("a").await, 503);
    bench.platform.roll_back("page", false).await.unwrap();
    assert_eq!(bench.get("a").await, 404);
    assert_eq!(
        bench.state_of(2).await,
        VersionState::Live,
        "the other function stays"
    );
    bench.platform.roll_back("shop", false).await.unwrap();
    assert_eq!(bench.get("a").await, 503, "the app is as it was before that");
    let nothing = bench
        .platform
        .roll_back("nobody", false)
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        nothing,
        "no function `nobody` is deployed; deployed are `page`, `step`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_the_same_manifest_leaves_what_people_have_set() {
    let bench = Bench::new().await;
    bench.deploy("Other", "hello", Traffic::All).await;
    bench.platform.roll_back("step", false).await.unwrap();
    bench.deploy("Other", "hello", Traffic::Changed).await;
    assert_eq!(bench.state_of(1).await, VersionState::Live);
    bench.deploy("Third", "hello", Traffic::Changed).await;
    assert_eq!(bench.state_of(3).await, VersionState::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_removed_and_asking_for_one_says_so() {
    let bench = Bench::new().await;
    let mut last = 1;
    for number in 0..KEPT + 3 {
        last = bench.deploy(&format!("T{number}"), "hello", Traffic::All).await.0;
        // A version that still drains is kept, however old it is.
        let drained = async || (bench.state_of(last - 1).await == VersionState::Kept).then_some(());
        until(drained).await;
    }
    let kept = bench.platform.versions(Some("step")).await.unwrap();
    assert_eq!(kept.len(), KEPT);
    assert_eq!(kept.last().unwrap().version, last);
    let refused = bench
        .platform
        .set_alias("step", LIVE, Split::whole(1))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "function `step` has no version 1 any more: the latest 10 are kept; kept are 5, 6, 7, 8, 9, 10, 11, 12, 13, 14"
    );
    let unknown = bench
        .platform
        .set_alias("step", "candidate", Split::whole(99))
        .await;
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .starts_with("function `step` has no version 99; kept are")
    );
    bench
        .platform
        .set_alias("step", "candidate", Split::whole(last - 5))
        .await
        .unwrap();
    let versions = bench.platform.versions(Some("step")).await.unwrap();
    let aliases = versions.iter().flat_map(|version| version.aliases.keys());
    assert_eq!(aliases.collect::<Vec<_>>(), ["candidate", LIVE]);
}
