//! Guests that take too much: what ends their invocation, and only that.

use serde_json::json;
use tidegate_runtime::records::{LogFilter, RunState};

use crate::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_ends_the_invocation_with_its_name() {
    let bench = Bench::odd().await;
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
    let bench = Bench::odd().await;
    let reason = bench.reason(json!({ "do": "pending" })).await;
    assert!(
        reason.contains("limit `wall_time` of 2s reached") || reason.starts_with("trap: "),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_arguments_are_refused_in_a_short_answer_or_cut() {
    let bench = Bench::odd().await;
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
async fn logs_are_kept_with_the_run_up_to_their_bound() {
    let bench = Bench::odd().await;
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
async fn a_key_that_no_store_could_hold_is_refused_and_the_reason_says_so() {
    let bench = Bench::odd().await;
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
