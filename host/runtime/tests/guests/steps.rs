//! One event at a time: what commits, what does not, and why.

use std::sync::Arc;

use serde_json::json;
use tidegate_runtime::effects::EffectCounts;
use tidegate_runtime::records::{RunDetail, RunState, StepState};

use crate::bench::{Bench, PATIENCE, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_commits_its_writes_and_its_events_together() {
    let bench = Bench::odd().await;
    let run = bench.run(json!({ "do": "count", "key": "a" })).await;
    assert_eq!((run.state, bench.counter("a").await), (RunState::Done, Some(1)));
    bench.run(json!({ "do": "count", "key": "a" })).await;
    assert_eq!(bench.counter("a").await, Some(2));
    let run = bench.run(json!({ "do": "emit", "count": 3 })).await;
    let functions: Vec<_> = run.steps.iter().map(|step| step.function.as_str()).collect();
    assert_eq!(functions, ["odd", "echo", "echo", "echo"]);
    assert_eq!(run.steps[0].emitted.len(), 3);
    let three_events = EffectCounts {
        events: 3,
        ..EffectCounts::default()
    };
    // `echo` fails, so that nothing of it is committed.
    assert_eq!(
        (run.steps[0].effects, run.steps[1].effects),
        (Some(three_events), None)
    );
    let trace = &run.steps[0].trace_id;
    assert!(trace.as_ref().is_some_and(|trace| trace.len() == 32), "{trace:?}");
    assert!(
        run.steps
            .iter()
            .all(|step| step.trace_id == *trace && step.span_id.is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_leaves_nothing_behind() {
    let bench = Bench::odd().await;
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
    let bench = Bench::odd().await;
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
    let bench = Bench::odd().await;
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
async fn what_is_not_granted_is_refused_and_the_reason_names_the_grant() {
    let bench = Bench::odd().await;
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
async fn many_writers_of_one_key_lose_no_update() {
    let bench = Arc::new(Bench::odd().await);
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
    let bench = Bench::odd().await;
    bench.platform.drain(PATIENCE).await;
    bench.send("Do", &json!({ "do": "count", "key": "late" })).await;
    std::fs::remove_file(bench.folder.path().join("tidegate.toml")).unwrap();
    let bench = bench.start_again(|_| {}).await;
    until("the event left behind", async || bench.counter("late").await).await;
    assert_eq!(bench.platform.functions().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_runs_is_shown_as_running_with_its_attempt() {
    let bench = Bench::odd().await;
    let run = bench.send("Do", &json!({ "do": "spin" })).await;
    for attempt in 1..=3 {
        let runs = |run: &RunDetail| {
            let step = &run.steps[0];
            (step.state, step.attempt) == (StepState::Running, attempt)
        };
        let running = bench.run_until(&run, runs).await;
        assert_eq!(running.state, RunState::Running);
        let step = &running.steps[0];
        assert!(step.started.is_some() && step.finished.is_none(), "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_names_the_object_that_was_being_read() {
    let bench = Bench::odd().await;
    let write = json!({ "do": "objects", "bucket": "data", "key": "out/broken.bin", "text": "x" });
    bench.run(write).await;
    let deed = json!({ "do": "read-then-trap", "bucket": "data", "key": "out/broken.bin" });
    let reason = bench.reason(deed).await;
    assert!(
        reason.contains("the component trapped while reading `data/out/broken.bin`: "),
        "{reason}"
    );
}
