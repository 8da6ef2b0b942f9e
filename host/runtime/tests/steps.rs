//! Real guests through the real platform on the embedded store: what commits, what does not, and why.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_runtime::dispatch::{DEAD, DeadLetter};
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::records::{LogFilter, RunDetail, RunState, StepState};
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Condition, Order, Publication};
use tidegate_runtime::{Platform, PlatformConfig, Traffic};

const MANIFEST: &str = r#"
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
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.toml"), MANIFEST).unwrap();
        let platform = Self::open(folder.path()).await;
        platform
            .deploy(&folder.path().join("tidegate.toml"), Traffic::All)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self { folder, platform }
    }

    async fn open(folder: &Path) -> Arc<Platform> {
        let store = Arc::new(Embedded::open(&folder.join("data")).unwrap());
        let mut config = PlatformConfig::new(folder.join("data"));
        config.component_dirs = vec![components()];
        Platform::open(config, store, Arc::new(NoInference))
            .await
            .unwrap()
    }

    /// Sends a deed and waits for its run to end.
    async fn run(&self, deed: Value) -> RunDetail {
        let json = Some("application/json".to_owned());
        let accepted = self
            .platform
            .emit("Do", None, json, Bytes::from(deed.to_string()))
            .await
            .unwrap();
        let started = Instant::now();
        loop {
            let run = self.platform.records().run(&accepted.run).await.unwrap().unwrap();
            if run.state != RunState::Running {
                return run;
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{deed} still runs: {run:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Writes an object of the bucket `data`.
    async fn object(&self, key: &str) {
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

    async fn counter(&self, key: &str) -> Option<u64> {
        let row = self.platform.store().get("counters", key).await.unwrap()?;
        serde_json::from_slice(&row.value).ok()
    }

    async fn dead(&self) -> Vec<DeadLetter> {
        let page = self
            .platform
            .store()
            .query(DEAD, "", None, 100, Order::Ascending)
            .await
            .unwrap();
        page.entries
            .iter()
            .map(|(_, row)| serde_json::from_slice(&row.value).unwrap())
            .collect()
    }

    /// The reason for which a deed is dead after one attempt or more.
    async fn reason(&self, deed: Value) -> String {
        let run = self.run(deed).await;
        assert_eq!(run.state, RunState::Dead, "{run:?}");
        run.steps[0].reason.clone().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_commits_its_writes_and_its_events_together() {
    let bench = Bench::new().await;
    let run = bench.run(json!({ "do": "count", "key": "a" })).await;
    assert_eq!((run.state, bench.counter("a").await), (RunState::Done, Some(1)));
    bench.run(json!({ "do": "count", "key": "a" })).await;
    assert_eq!(bench.counter("a").await, Some(2));
    let run = bench.run(json!({ "do": "emit", "count": 3 })).await;
    let functions: Vec<_> = run.steps.iter().map(|step| step.function.as_str()).collect();
    assert_eq!(functions, ["odd", "echo", "echo", "echo"]);
    assert_eq!(run.steps[0].emitted.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let reason = bench.reason(json!({ "do": "write-then-fail", "key": "w" })).await;
    assert_eq!(reason, "after the write");
    assert_eq!(bench.counter("w").await, None);
    let dead = bench.dead().await;
    assert_eq!(
        (dead.len(), dead[0].function.as_str(), dead[0].attempts),
        (1, "odd", 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_sees_its_own_writes_and_others_see_them_once_committed() {
    let bench = Bench::new().await;
    let deed = json!({ "do": "objects", "bucket": "data", "key": "out/x", "text": "hello" });
    let run = bench.run(deed).await;
    let object = bench
        .platform
        .store()
        .open("data", "out/x")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(object.read_at(0, 100).await.unwrap(), "hello");
    // The publication is an event of the same run; `echo` does not understand it.
    let step = run
        .steps
        .iter()
        .find(|step| step.kind == "tidegate.object.created")
        .unwrap();
    assert_eq!(
        (step.function.as_str(), step.subject.as_deref(), step.state),
        ("echo", Some("out/x"), StepState::Dead)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_until_it_succeeds_or_is_dead() {
    let bench = Bench::new().await;
    let run = bench.run(json!({ "do": "flaky", "times": 2 })).await;
    assert_eq!((run.state, run.steps[0].attempt), (RunState::Done, 3));
    let run = bench.run(json!({ "do": "flaky", "times": 9 })).await;
    assert_eq!((run.state, run.steps[0].attempt), (RunState::Dead, 3));
    assert_eq!(bench.dead().await.len(), 1);
    let run = bench.run(json!({ "do": "reject", "reason": "no" })).await;
    assert_eq!((run.state, run.steps[0].attempt), (RunState::Dead, 1));
    let run = bench.run(json!({ "do": "no such deed" })).await;
    assert!(
        run.steps[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("is not what `Do` holds")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_ends_the_invocation_with_its_name() {
    let bench = Bench::new().await;
    bench.object("in/some").await;
    for (deed, expected) in [
        (json!({ "do": "spin" }), "limit `cpu_time` of 500ms reached"),
        (
            json!({ "do": "sleep", "seconds": 3600 }),
            "limit `wall_time` of 2s reached",
        ),
        (
            json!({ "do": "handles", "bucket": "data", "key": "in/some", "count": 1000 }),
            "limit `handles` of 100 reached",
        ),
        (
            json!({ "do": "grow" }),
            "limit `memory` of 33554432 bytes reached",
        ),
        (json!({ "do": "calls" }), "limit `host_calls` of 10000 reached"),
        (
            json!({ "do": "emit", "count": 1001 }),
            "limit `effects_count` of 1000 reached",
        ),
    ] {
        let reason = bench.reason(deed).await;
        assert!(reason.contains(expected), "{reason}");
    }
    for deed in [json!({ "do": "trap" }), json!({ "do": "recurse" })] {
        let reason = bench.reason(deed).await;
        assert!(reason.starts_with("trap: "), "{reason}");
    }
    bench.run(json!({ "do": "count", "key": "after" })).await;
    assert_eq!(bench.counter("after").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_awaits_what_never_comes_is_ended() {
    let bench = Bench::new().await;
    let reason = bench.reason(json!({ "do": "pending" })).await;
    assert!(
        reason.contains("limit `wall_time` of 2s reached") || reason.starts_with("trap: "),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_arguments_are_refused_in_a_short_answer_or_cut() {
    let bench = Bench::new().await;
    for (import, bytes, expected) in [
        ("state.get", 1 << 20, "found a key of 1048576 bytes"),
        ("state.put", 1 << 20, "found a key of 1048576 bytes"),
        ("objects.open", 1 << 20, "longer than 1,024 bytes"),
        ("objects.create", 1 << 20, "longer than 1,024 bytes"),
        ("objects.content-type", 1 << 20, "at most"),
        ("events.emit", 1 << 20, "at most"),
        ("config.secret", 1 << 20, "secret"),
        ("failure", 1 << 20, "more bytes"),
    ] {
        let deed = json!({ "do": "giant", "import": import, "bytes": bytes });
        let reason = bench.reason(deed).await;
        assert!(
            reason.contains(expected),
            "{import}: {} ... {}",
            &reason[..reason.len().min(100)],
            &reason[reason.len().saturating_sub(200)..]
        );
        assert!(
            reason.len() < 10_000,
            "{import}: a reason of {} bytes",
            reason.len()
        );
    }
    for (import, bytes) in [
        // The SDK asks in pages that the host takes.
        ("state.get-many", 10_000),
        ("config.variable", 1 << 20),
        ("log.write", 1 << 20),
        ("log.progress", 1 << 20),
    ] {
        let deed = json!({ "do": "giant", "import": import, "bytes": bytes });
        let run = bench.run(deed).await;
        assert_eq!(run.state, RunState::Done, "{import}: {run:?}");
    }
    bench.run(json!({ "do": "count", "key": "after" })).await;
    assert_eq!(bench.counter("after").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_refused_and_the_reason_names_the_grant() {
    let bench = Bench::new().await;
    let reason = bench
        .reason(json!({ "do": "read", "bucket": "data", "key": "secret/x" }))
        .await;
    assert!(
        reason.contains("missing grant `objects.read = [\"data/secret/\"]` in function `odd`"),
        "{reason}"
    );
    let reason = bench
        .reason(json!({ "do": "state", "table": "$done", "key": "x" }))
        .await;
    assert!(
        reason.contains("missing grant `state.write = [\"$done\"]`"),
        "{reason}"
    );
    let reason = bench
        .reason(json!({ "do": "read", "bucket": "data", "key": "in/../secret/x" }))
        .await;
    assert!(reason.contains("holds a `.` or `..` segment"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_with_the_run_up_to_their_bound() {
    let bench = Bench::new().await;
    let run = bench.run(json!({ "do": "logs", "lines": 1000 })).await;
    let lines = bench
        .platform
        .records()
        .logs(
            &LogFilter {
                run: Some(run.head.run.to_owned()),
                function: Some("odd".to_owned()),
                ..LogFilter::default()
            },
            10_000,
        )
        .await
        .unwrap()
        .lines;
    assert_eq!(lines[0].line.message, "line 0");
    let last = &lines.last().unwrap().line.message;
    assert!(
        lines.len() < 1000 && last.contains("more lines dropped: limit `log_bytes` of 4096 reached"),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_of_one_key_lose_no_update() {
    let bench = Arc::new(Bench::new().await);
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.run(json!({ "do": "count", "key": "hot" })).await })
        })
        .collect();
    let mut done = 0;
    for run in runs {
        done += u64::from(run.await.unwrap().state == RunState::Done);
    }
    assert_eq!(bench.counter("hot").await, Some(done));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_runs_what_was_deployed_and_what_was_left() {
    let bench = Bench::new().await;
    bench.platform.drain(Duration::from_secs(5)).await;
    let Bench { folder, platform } = bench;
    platform
        .emit(
            "Do",
            None,
            None,
            Bytes::from(json!({ "do": "count", "key": "late" }).to_string()),
        )
        .await
        .unwrap();
    drop(platform);
    std::fs::remove_file(folder.path().join("tidegate.toml")).unwrap();
    let bench = Bench {
        platform: Bench::open(folder.path()).await,
        folder,
    };
    let started = Instant::now();
    while bench.counter("late").await.is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the event left behind did not run"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.platform.functions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_refuses_every_mismatch_at_once() {
    let bench = Bench::new().await;
    let file = bench.folder.path().join("bad.toml");
    let text = r#"
[app]
name = "bad"
[[function]]
name = "ungranted"
component = "tidegate_guests.wasm"
trigger = [{ http = { route = "/x" } }]
[[function]]
name = "missing"
component = "nowhere.wasm"
"#;
    std::fs::write(&file, text).unwrap();
    let refused = bench
        .platform
        .deploy(&file, Traffic::All)
        .await
        .unwrap_err()
        .to_string();
    for expected in [
        "function.ungranted.component: component `tidegate_guests.wasm` exports `handle`, for events, but the trigger is `http * /x`",
        "imports `tidegate:function/state@0.1.0`, but the manifest has no grant `state.read` or `state.write`",
        "function.missing.component: component `nowhere.wasm` not found",
    ] {
        assert!(refused.contains(expected), "missing {expected:?} in\n{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_runs_is_shown_as_running_with_its_attempt() {
    let bench = Bench::new().await;
    let json = Some("application/json".to_owned());
    let deed = Bytes::from(json!({ "do": "spin" }).to_string());
    let accepted = bench.platform.emit("Do", None, json, deed).await.unwrap();
    let started = Instant::now();
    for attempt in 1..=3 {
        loop {
            let run = bench
                .platform
                .records()
                .run(&accepted.run)
                .await
                .unwrap()
                .unwrap();
            let step = &run.steps[0];
            if (step.state, step.attempt) == (StepState::Running, attempt) {
                assert_eq!(run.state, RunState::Running);
                assert!(step.started.is_some() && step.finished.is_none(), "{step:?}");
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{attempt}: {run:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_does_not_take_a_route_of_another_app() {
    let bench = Bench::new().await;
    let app = |name: &str, http: &str| {
        let text = format!(
            "[app]\nname = \"{name}\"\n[[function]]\nname = \"{name}-http\"\ncomponent = \"hello_http.wasm\"\n\
             trigger = [{{ http = {http} }}]\ngrants.state.read = [\"hello\"]\n"
        );
        let file = bench.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    };
    let deploy = async |file: PathBuf| bench.platform.deploy(&file, Traffic::All).await.map(drop);
    let first = app("first", r#"{ method = "GET", route = "/hello/{name}" }"#);
    deploy(first.clone()).await.unwrap();
    let refused = deploy(app("second", r#"{ route = "/hello/{who}" }"#)).await;
    let reason = refused.unwrap_err().to_string();
    assert_eq!(
        reason,
        "`http * /hello/{who}` of function `second-http` answers the requests of `http GET /hello/{name}`, which \
         belongs to function `first-http` of the app `first`"
    );
    deploy(app("second", r#"{ method = "POST", route = "/hello/{who}" }"#))
        .await
        .unwrap();
    deploy(first).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_no_store_could_hold_is_refused_and_the_reason_says_so() {
    let bench = Bench::new().await;
    let long = "k".repeat(1025);
    let reason = bench
        .reason(json!({ "do": "state", "table": "counters", "key": long }))
        .await;
    assert!(
        reason.contains("found a key of 1025 bytes, expected 1 to 1024"),
        "{reason}"
    );
    let reason = bench.reason(json!({ "do": "count", "key": long })).await;
    assert!(
        reason.contains("found a key of 1025 bytes, expected 1 to 1024"),
        "{reason}"
    );
    let read = json!({ "do": "read", "bucket": "data", "key": format!("in/{long}") });
    let reason = bench.reason(read).await;
    assert!(reason.contains("is longer than 1,024 bytes"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_names_the_object_that_was_being_read() {
    let bench = Bench::new().await;
    let write = json!({ "do": "objects", "bucket": "data", "key": "out/broken.bin", "text": "x" });
    bench.run(write).await;
    let deed = json!({ "do": "read-then-trap", "bucket": "data", "key": "out/broken.bin" });
    let reason = bench.reason(deed).await;
    assert!(
        reason.contains("the component trapped while reading `data/out/broken.bin`: "),
        "{reason}"
    );
}
