//! The exporter beside collectors that take spans, refuse them, or never answer.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value as Json;
use tokio::net::TcpListener;

use super::*;
use crate::{Context, Kind};

const QUICK: Tuning = Tuning {
    queue: 4,
    interval: Duration::from_millis(1),
    timeout: Duration::from_secs(60),
};

fn span(number: u64) -> Span {
    let root = Context::root(9, 1);
    Span::new(
        root.at(number + 2),
        Some(root),
        Kind::Consumer,
        "process ingest",
        (1_000, 3_000),
    )
    .with("faas.coldstart", true)
    .with("tidegate.attempt", number)
    .failed("trap", "it broke")
}

fn endpoint(address: SocketAddr) -> Endpoint {
    format!("http://{address}").parse().unwrap()
}

/// A collector that answers with a status, and what it was sent.
async fn collector(status: StatusCode) -> (Endpoint, mpsc::Receiver<Json>) {
    let (seen, requests) = mpsc::channel(64);
    let take = async move |State(seen): State<mpsc::Sender<Json>>, body: String| {
        seen.send(serde_json::from_str(&body).unwrap()).await.unwrap();
        status
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(seen);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint(address), requests)
}

#[tokio::test]
async fn a_span_comes_to_the_collector_as_otlp_has_it() {
    let (endpoint, mut requests) = collector(StatusCode::OK).await;
    let (exporter, spans) = Exporter::start(endpoint, QUICK, "tidegate");
    spans.record(|| Some(span(1)));
    let request = requests.recv().await.unwrap();
    let sent = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(sent["traceId"], "00000000000000000000000000000009");
    assert_eq!(
        (&sent["spanId"], &sent["parentSpanId"]),
        (&"0000000000000003".into(), &"0000000000000001".into())
    );
    assert_eq!(
        (&sent["startTimeUnixNano"], &sent["kind"]),
        (&"1000".into(), &5.into())
    );
    assert_eq!(sent["attributes"][1]["value"]["intValue"], "1");
    assert_eq!(sent["status"]["message"], "it broke");
    assert_eq!(sent["events"][0]["attributes"][0]["value"]["stringValue"], "trap");
    let service = &request["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"];
    assert_eq!(service, "tidegate");
    exporter.finish().await;
    assert_eq!((spans.sent(), spans.dropped()), (1, 0));
}

#[tokio::test]
async fn what_waits_is_sent_before_the_end() {
    let (endpoint, mut requests) = collector(StatusCode::OK).await;
    let patient = Tuning {
        interval: Duration::from_secs(600),
        ..QUICK
    };
    let (exporter, spans) = Exporter::start(endpoint, patient, "tidegate");
    spans.record(|| Some(span(1)));
    exporter.finish().await;
    assert_eq!(spans.sent(), 1);
    assert!(requests.recv().await.is_some());
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_spans_and_nothing_else() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let impatient = Tuning {
        timeout: Duration::from_millis(50),
        ..QUICK
    };
    let (exporter, spans) = Exporter::start(endpoint(silent.local_addr().unwrap()), impatient, "tidegate");
    for number in 0..1000 {
        spans.record(|| Some(span(number)));
    }
    assert_eq!(spans.dropped(), 996);
    exporter.finish().await;
    assert_eq!(spans.sent(), 0);
}

#[tokio::test]
async fn what_a_collector_refuses_is_dropped_and_counted() {
    let (endpoint, mut requests) = collector(StatusCode::BAD_REQUEST).await;
    let (exporter, spans) = Exporter::start(endpoint, QUICK, "tidegate");
    spans.record(|| Some(span(1)));
    assert!(requests.recv().await.is_some());
    exporter.finish().await;
    assert_eq!((spans.sent(), spans.dropped()), (0, 1));
    assert!(
        requests.try_recv().is_err(),
        "a refusal for good is not tried again"
    );
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_leaves_no_span() {
    let (endpoint, _requests) = collector(StatusCode::OK).await;
    let (exporter, spans) = Exporter::start(endpoint, QUICK, "tidegate");
    let silent = Context::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
    spans.record(|| Some(Span::new(silent, None, Kind::Server, "GET", (1, 2))));
    exporter.finish().await;
    assert_eq!((spans.sent(), spans.dropped()), (0, 0));
}

#[test]
fn an_endpoint_is_an_http_address() {
    let sound: Endpoint = "http://127.0.0.1:4318/".parse().unwrap();
    assert_eq!(sound.traces, "http://127.0.0.1:4318/v1/traces");
    for (odd, told) in [
        ("4318", "no address"),
        ("https://collector:4318", "plain HTTP only"),
        ("grpc://x", "no address"),
    ] {
        let error = odd.parse::<Endpoint>().unwrap_err();
        assert!(error.contains(odd) && error.contains(told), "{error}");
    }
}
