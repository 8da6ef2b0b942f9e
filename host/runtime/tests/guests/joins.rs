//! Joins: what they wait for, what completes them, and what they refuse.

use bytes::Bytes;
use serde_json::json;
use tidegate_runtime::jobs::Worker;
use tidegate_runtime::records::{RunDetail, RunState, StepRecord, StepState};
use tidegate_runtime::store::{Condition, StateWrite, Unit};

use crate::bench::{Bench, PATIENCE};

const MANIFEST: &str = r#"
[app]
name = "joins"

[[function]]
name = "one"
component = "tidegate_guests_join.wasm"
trigger = [{ event = "Split" }, { event = "Part" }, { event = "Joined" }, { event = "Trained" }, { event = "Stray" }]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Part", "Joined", "Trained"]
grants.jobs.submit = ["train.odd"]
retry = { initial = "10ms" }
variables = { place = "a" }

[[function]]
name = "other"
component = "tidegate_guests_join.wasm"
trigger = [{ event = "Part" }]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Part", "Joined", "Trained"]
grants.jobs.submit = ["train.odd"]
retry = { initial = "10ms" }
variables = { place = "b" }
"#;

fn join_of(run: &RunDetail) -> Option<&StepRecord> {
    run.steps.iter().find(|step| step.function == "$join")
}

/// Whether nothing but one part that died keeps the join open.
fn hangs_on_one(run: &RunDetail) -> bool {
    run.state == RunState::Dead && join_of(run).is_some_and(|join| join.waits_for == Some(1))
}

fn is_done(run: &RunDetail) -> bool {
    run.state == RunState::Done
}

/// The ids of all dead letters.
async fn dead(bench: &Bench) -> Vec<String> {
    let letters = bench.platform.dead_letters();
    let letters = letters.list(&Default::default(), 100).await.unwrap();
    letters.iter().map(|letter| letter.id()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_goes_on_once_after_every_part_and_a_redriven_letter_completes_it() {
    let bench = Bench::with(MANIFEST).await;
    let run = bench.send("Split", &json!({ "parts": 50, "sick": 13 })).await;
    let open = bench.run_until(&run, hangs_on_one).await;
    assert_eq!(join_of(&open).unwrap().state, StepState::Joining);
    assert_eq!(bench.counter("joined").await, None);
    let heal = StateWrite {
        table: "counters".into(),
        key: "healed".into(),
        value: Some(Bytes::from_static(b"1")),
        condition: Condition::None,
    };
    let heal = Unit {
        state: vec![heal],
        ..Unit::default()
    };
    bench.platform.store().commit(heal).await.unwrap();
    let letters = dead(&bench).await;
    assert_eq!(letters.len(), 1);
    let moved = bench
        .platform
        .dead_letters()
        .redrive_all(&letters, None)
        .await
        .unwrap();
    assert_eq!(moved.moved, letters);
    let done = bench.run_until(&run, is_done).await;
    let of_kind = |kind: &str| done.steps.iter().filter(|step| step.kind == kind).count();
    assert_eq!((of_kind("Part"), of_kind("Joined")), (2 * 51, 1));
    assert_eq!(bench.counter("joined").await, Some(1));
    for place in ["a", "b"] {
        for part in (0..50).map(|part| part.to_string()).chain(["2-more".into()]) {
            assert_eq!(bench.counter(&format!("{place}-{part}")).await, Some(1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_goes_on_without_a_part_that_is_dropped() {
    let bench = Bench::with(MANIFEST).await;
    let split = json!({ "parts": 5, "sick": 4, "without_sick": true });
    let run = bench.send("Split", &split).await;
    bench.run_until(&run, hangs_on_one).await;
    let letters = dead(&bench).await;
    bench.platform.dead_letters().drop_all(&letters).await.unwrap();
    let joined = |run: &RunDetail| {
        run.steps
            .iter()
            .any(|step| step.kind == "Joined" && step.finished.is_some())
    };
    bench.run_until(&run, joined).await;
    assert_eq!(bench.counter("joined").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_waits_for_the_ends_of_jobs_that_are_parts_of_it_whatever_they_are() {
    let bench = Bench::with(MANIFEST).await;
    let run = bench.send("Split", &json!({ "parts": 3, "jobs": 2 })).await;
    let waits_for = |run: &RunDetail, number| join_of(run).is_some_and(|join| join.waits_for == Some(number));
    bench.run_until(&run, |run| waits_for(run, 2)).await;
    let worker = Worker {
        name: "w".into(),
        kinds: vec!["train.odd".into()],
        ..Worker::default()
    };
    let jobs = bench.platform.jobs();
    let lease = async || jobs.lease(&worker, PATIENCE).await.unwrap().unwrap();
    let (one, other) = (lease().await, lease().await);
    jobs.complete(&one.job.id, &one.token, json!({})).await.unwrap();
    bench.run_until(&run, |run| waits_for(run, 1)).await;
    assert_eq!(bench.counter("trained").await, Some(1));
    assert_eq!(bench.counter("joined").await, None);
    jobs.fail(&other.job.id, &other.token, "odd", false)
        .await
        .unwrap();
    let joined = |run: &RunDetail| {
        run.steps
            .iter()
            .any(|step| step.kind == "Joined" && step.finished.is_some())
    };
    bench.run_until(&run, joined).await;
    assert_eq!(bench.counter("joined").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_without_parts_goes_on_at_once() {
    let bench = Bench::with(MANIFEST).await;
    let run = bench.send("Split", &json!({ "parts": 0 })).await;
    bench.run_until(&run, is_done).await;
    assert_eq!(bench.counter("joined").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_join_is_refused_and_the_reason_says_so() {
    let bench = Bench::with(MANIFEST).await;
    for (kind, data, expected) in [
        (
            "Split",
            json!({ "parts": 10_001 }),
            "found 10001 parts of a join, at most 10000 are allowed",
        ),
        (
            "Stray",
            json!({}),
            "found no join that every handled event is a part of",
        ),
    ] {
        let run = bench.send(kind, &data).await;
        let reason = bench.first_step(&run).await.reason.unwrap_or_default();
        assert!(reason.contains(expected), "{kind}: {reason}");
    }
}
