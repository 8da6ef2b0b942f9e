//! Guests that begin tasks without end.

use serde_json::json;
use tidegate_runtime::records::RunState;

use crate::bench::Bench;

const MANIFEST: &str = r#"
[app]
name = "tasks"

[[function]]
name = "tasks"
component = "tidegate_guests_tasks.wasm"
trigger = [{ event = "Do" }]
limits = { memory = "64MiB", wall_time = "60s", cpu_time = "20s", handles = 200 }
retry = { max_attempts = 1 }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_begins_tasks_without_end_is_ended_by_its_handles() {
    let bench = Bench::with(MANIFEST).await;
    for deed in ["waits", "streams"] {
        let reason = bench.reason(json!({ "do": deed })).await;
        assert_eq!(reason, "limit `handles` of 200 reached", "{deed}");
    }
    let run = bench.run(json!({ "do": "together", "count": 100 })).await;
    assert_eq!(run.state, RunState::Done, "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_leaves_under_way_ends_with_its_return() {
    let bench = Bench::with(MANIFEST).await;
    let run = bench.run(json!({ "do": "waits-behind", "count": 20 })).await;
    assert_eq!(run.state, RunState::Done, "{run:?}");
}
