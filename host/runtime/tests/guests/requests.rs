//! Requests leave records: how each went, what it logged, and what it set off.

use tidegate_runtime::PlatformConfig;
use tidegate_runtime::records::{KeptRequests, LogFilter, RequestFilter, RequestRecord, RunState};

use crate::bench::{Bench, PATIENCE, until};

const MANIFEST: &str = r#"
[app]
name = "web"

[[function]]
name = "web"
component = "tidegate_guests_web.wasm"
trigger = [{ http = { route = "/{*rest}" } }]
grants.events.emit = ["Do"]

[[function]]
name = "plain"
component = "tidegate_plain_http.wasm"
trigger = [{ http = { route = "/plain" } }]

[[function]]
name = "odd"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }]
grants.objects.read = ["data/"]
grants.state.read = ["counters"]
grants.events.emit = ["Never"]
"#;

/// No writing is due before somebody asks.
fn bounded(newest: usize) -> impl FnOnce(&mut PlatformConfig) {
    move |config| {
        config.requests = KeptRequests {
            newest,
            interval: PATIENCE,
        };
    }
}

/// The records of so many requests, newest first: one is there a moment after its answer.
async fn recorded(bench: &Bench, filter: &RequestFilter, count: usize) -> Vec<RequestRecord> {
    until(&format!("the record of request {count}"), async || {
        let found = bench.platform.records().requests(filter, 100).await.unwrap();
        (found.len() >= count).then_some(found)
    })
    .await
}

async fn lines(bench: &Bench, filter: LogFilter) -> Vec<String> {
    let found = bench.platform.records().logs(&filter, 100).await.unwrap();
    found
        .lines
        .into_iter()
        .map(|logged| logged.line.message)
        .collect()
}

fn of(function: &str) -> RequestFilter {
    RequestFilter {
        function: Some(function.to_owned()),
        ..RequestFilter::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_leaves_a_record_and_its_lines() {
    let bench = Bench::configured(MANIFEST, bounded(10)).await;
    assert_eq!(bench.get("/say/hello?secret").await.0, 200);
    let said = recorded(&bench, &of("web"), 1).await.remove(0);
    assert_eq!(
        (said.function.as_str(), said.version, said.status, said.lines),
        ("web", 1, 200, 2)
    );
    assert_eq!((said.method.as_str(), said.path.as_str()), ("GET", "/say/hello"));
    assert_eq!(said.request_id.as_deref(), Some("by-the-test"));
    assert!(!said.usage.warm && said.usage.cpu_ms > 0.0 && said.usage.host_calls > 0);
    assert!(said.duration_ms >= said.usage.start_ms && said.effects.total() == 0);
    let digits = |id: &Option<String>| id.as_ref().map(String::len);
    assert_eq!(
        (digits(&said.trace_id), digits(&said.span_id)),
        (Some(32), Some(16))
    );
    let of_run = LogFilter {
        run: Some(said.run),
        ..LogFilter::default()
    };
    assert_eq!(lines(&bench, of_run).await, ["logged hello", "printed hello"]);

    assert_eq!(bench.get("/trap").await.0, 500);
    assert_eq!(bench.get("/plain").await.0, 200);
    let plain = recorded(&bench, &of("plain"), 1).await.remove(0);
    assert_eq!((plain.status, plain.reason, plain.lines), (200, None, 0));
    let failed = RequestFilter {
        failed: true,
        ..RequestFilter::default()
    };
    let failed = recorded(&bench, &failed, 1).await;
    let [trapped] = failed.as_slice() else {
        panic!("one failed: {failed:?}");
    };
    let reason = trapped.reason.as_deref().unwrap();
    assert!(
        reason.starts_with("trap: ") && trapped.status == 500,
        "{trapped:?}"
    );
    let grep = LogFilter {
        function: Some("web".to_owned()),
        text: Some("trap".to_owned()),
        ..LogFilter::default()
    };
    assert_eq!(lines(&bench, grep).await, ["about to trap"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_set_off_is_a_run_that_is_found() {
    let bench = Bench::configured(MANIFEST, bounded(10)).await;
    assert_eq!(bench.get("/emit").await, (200, "emitted".to_owned()));
    let request = recorded(&bench, &of("web"), 1).await.remove(0);
    assert_eq!((request.effects.events, request.effects.total()), (1, 1));
    let run = until("the end of the run", async || {
        let run = bench.platform.records().run(&request.run).await.unwrap().unwrap();
        (run.state == RunState::Done).then_some(run)
    })
    .await;
    assert_eq!((run.steps.len(), run.steps[0].function.as_str()), (1, "odd"));
    assert_eq!(run.head.subject.as_deref(), Some("/emit"));
    assert_eq!(run.steps[0].trace_id, request.trace_id);
    assert_eq!(bench.platform.records().runs(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_function_the_newest_requests_are_kept_with_their_lines_across_a_restart() {
    let bench = Bench::configured(MANIFEST, bounded(3)).await;
    bench.get("/plain").await;
    recorded(&bench, &of("plain"), 1).await;
    let mut newest = Vec::new();
    for number in 1..=5 {
        // Requests of one millisecond have no order.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        bench.get(&format!("/say/{number}")).await;
        let path = format!("/say/{number}");
        newest = until("the next record", async || {
            let found = bench.platform.records().requests(&of("web"), 100).await.unwrap();
            (found.first()?.path == path).then_some(found)
        })
        .await;
    }
    let paths = |found: &[RequestRecord]| found.iter().map(|said| said.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&newest), ["/say/5", "/say/4", "/say/3"]);
    assert_eq!(lines(&bench, LogFilter::default()).await.len(), 2 * 3);

    // What waits to be written is written when the platform drains.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    bench.get("/say/last").await;
    let bench = bench.restart(bounded(2)).await;
    let found = recorded(&bench, &of("web"), 3).await;
    assert_eq!(paths(&found), ["/say/last", "/say/5", "/say/4"]);
    bench.get("/say/again").await;
    let found = until("the record of the next start", async || {
        let found = bench.platform.records().requests(&of("web"), 100).await.unwrap();
        (found.first()?.path == "/say/again").then_some(found)
    });
    assert_eq!(paths(&found.await), ["/say/again", "/say/last"]);
    assert_eq!(lines(&bench, LogFilter::default()).await.len(), 2 * 2);
    assert_eq!(recorded(&bench, &of("plain"), 1).await.len(), 1);
}
