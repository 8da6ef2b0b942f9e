//! Batches: what is gathered, what commits together, and what becomes of an event that spoils one.

use serde_json::{Value, json};
use tidegate_runtime::records::{Batched, LogFilter, StepRecord, StepState};

use crate::bench::Bench;

/// A function whose batches close when they are full, long before their window does.
fn manifest(batch: &str, retry: &str) -> String {
    format!(
        "[app]\nname = \"together\"\n[[function]]\nname = \"count\"\ncomponent = \"tidegate_guests_batch.wasm\"\n\
         trigger = [{{ event = \"Do\" }}]\n{batch}\nretry = {{ {retry} }}\ngrants.state.read = [\"counters\"]\n\
         grants.state.write = [\"counters\"]\ngrants.events.emit = [\"Counted\"]\n"
    )
}

fn count(key: usize) -> Value {
    json!({ "do": "count", "key": format!("k{key}") })
}

async fn send_all(bench: &Bench, deeds: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut runs = Vec::new();
    for deed in deeds {
        runs.push(bench.send("Do", &deed).await);
    }
    runs
}

async fn steps(bench: &Bench, runs: &[String]) -> Vec<StepRecord> {
    let mut steps = Vec::new();
    for run in runs {
        steps.push(bench.first_step(run).await);
    }
    steps
}

/// How many events each step was handled with.
fn company(steps: &[StepRecord]) -> Vec<usize> {
    steps
        .iter()
        .map(|step| step.batch.as_ref().map_or(1, |batch| batch.events))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_batches_that_did_not_change_keeps_its_version() {
    let without_a_batch = manifest("", "");
    let bench = Bench::with(&without_a_batch).await;
    bench.deploy(&without_a_batch).await.unwrap();
    assert_eq!(bench.platform.functions()[0].version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_batch_is_one_invocation_and_a_step_in_the_run_of_each_event() {
    let bench = Bench::with(&manifest("batch = { size = 5, window = \"5m\" }", "")).await;
    let runs = send_all(&bench, (0..10).map(count)).await;
    let steps = steps(&bench, &runs).await;
    assert_eq!(company(&steps), [5; 10]);
    for (nth, (step, run)) in steps.iter().zip(&runs).enumerate() {
        assert_eq!((step.state, step.attempt), (StepState::Done, 1));
        let first = nth / 5 * 5;
        let batch = Batched {
            events: 5,
            first: runs[first].clone(),
            run: runs[first].clone(),
        };
        assert_eq!(step.batch.as_ref(), Some(&batch));
        let emitted = if nth == first { 5 } else { 0 };
        assert_eq!((step.emitted.len(), step.usage.is_some()), (emitted, true));
        assert_eq!(bench.counter(&format!("k{nth}")).await, Some(1));
        let lines = bench
            .platform
            .records()
            .logs(
                &LogFilter {
                    run: Some(run.to_owned()),
                    ..LogFilter::default()
                },
                10,
            )
            .await
            .unwrap()
            .lines;
        assert_eq!(
            (
                lines.len(),
                lines[0].line.message.as_str(),
                lines[0].event.as_str()
            ),
            (1, "5 together", runs[first].as_str())
        );
    }
    let all = bench
        .platform
        .records()
        .logs(
            &LogFilter {
                function: Some("count".to_owned()),
                ..LogFilter::default()
            },
            100,
        )
        .await
        .unwrap()
        .lines;
    assert_eq!(all.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_spoils_a_batch_ends_alone_and_the_others_commit() {
    for poison in [
        json!({ "do": "trap" }),
        json!({ "do": "reject" }),
        json!({ "do": "nonsense" }),
    ] {
        let batch = "batch = { size = 8, window = \"5m\" }";
        let bench = Bench::with(&manifest(batch, "max_attempts = 1")).await;
        let deeds = (0..8).map(|nth| if nth == 2 { poison.clone() } else { count(nth) });
        let runs = send_all(&bench, deeds).await;
        let steps = steps(&bench, &runs).await;
        for (nth, step) in steps.iter().enumerate() {
            let (state, counted) = match nth {
                2 => (StepState::Dead, None),
                _ => (StepState::Done, Some(1)),
            };
            assert_eq!((step.state, step.attempt), (state, 1), "{poison}: {step:?}");
            assert_eq!(bench.counter(&format!("k{nth}")).await, counted);
        }
        assert_eq!(company(&steps), [2, 2, 1, 1, 4, 4, 4, 4]);
        let letters = bench.platform.dead_letters();
        let letters = letters.list(&Default::default(), 10).await.unwrap();
        assert_eq!((letters.len(), letters[0].attempts), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_event_that_fails_alone_counts_an_attempt() {
    let batch = "batch = { size = 8, window = \"20ms\" }";
    let bench = Bench::with(&manifest(batch, "max_attempts = 3, initial = \"10ms\"")).await;
    let flaky = json!({ "do": "flaky", "times": 2 });
    let deeds = (0..8).map(|nth| if nth == 5 { flaky.clone() } else { count(nth) });
    let runs = send_all(&bench, deeds).await;
    for (nth, run) in runs.iter().enumerate() {
        let ended = bench
            .run_until(run, |run| run.steps[0].state == StepState::Done)
            .await;
        let attempts = if nth == 5 { 3 } else { 1 };
        assert_eq!(ended.steps[0].attempt, attempts, "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_window_a_batch_is_what_is_there() {
    let bench = Bench::with(&manifest("", "")).await;
    let runs = send_all(&bench, (0..20).map(count)).await;
    let steps = steps(&bench, &runs).await;
    assert!(
        steps.iter().all(|step| step.state == StepState::Done),
        "{steps:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_component_that_takes_one_event_is_a_mistake() {
    let bench = Bench::with(&manifest("", "")).await;
    let app = "[app]\nname = \"wrong\"\n";
    let function = |name: &str, component: &str, more: &str| {
        format!("[[function]]\nname = \"{name}\"\ncomponent = \"{component}\"\n{more}\n")
    };
    let grants =
        "grants.objects.read = [\"data/\"]\ngrants.state.write = [\"hello\"]\ngrants.events.emit = [\"X\"]";
    let text = [
        app.to_owned(),
        function("one", "hello.wasm", &format!("batch = {{ size = 2 }}\n{grants}")),
        function(
            "web",
            "hello_http.wasm",
            "batch = {}\ngrants.state.read = [\"hello\"]",
        ),
        function(
            "many",
            "tidegate_guests_batch.wasm",
            "trigger = [{ http = { route = \"/x\" } }]\ngrants.state.read = [\"counters\"]\ngrants.events.emit = [\"X\"]",
        ),
    ];
    let refused = bench.deploy(&text.concat()).await.unwrap_err();
    for expected in [
        "function.one.batch: component `hello.wasm` exports `handle`, for events, expected one that exports \
         `handle-batch` where there is a `batch`",
        "function.web.batch: component `hello_http.wasm` exports a `wasi:http` handler, for requests, expected one that",
        "function.many.component: component `tidegate_guests_batch.wasm` exports `handle-batch`, for events, but the \
         trigger is `http * /x`",
    ] {
        assert!(refused.contains(expected), "missing {expected:?} in\n{refused}");
    }
}
