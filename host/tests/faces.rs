//! The host's faces, from outside, in one process and without a worker.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::config::Config;
use tidegate::host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Started {
    host: Host,
    client: Client,
    base: String,
    _folder: TempDir,
}

async fn start(change: impl FnOnce(&mut Config)) -> Started {
    let _a_second_call_finds_it_there = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config {
        data_dir: folder.path().join("data"),
        drain: Duration::from_secs(2),
        ..Config::default()
    };
    config.gateway.listen.set_port(0);
    config.s3.listen.set_port(0);
    config.inference.listen.set_port(0);
    config.worker.start = false;
    config.worker.token = Some("secret".into());
    change(&mut config);
    let host = start_when_free(config).await;
    let base = format!("http://{}", host.gateway());
    Started {
        client: client(&host),
        base,
        host,
        _folder: folder,
    }
}

/// A host that has drained gives its folder back when the last of its tasks has ended.
async fn start_when_free(config: Config) -> Host {
    for _ in 0..100 {
        match Host::start(config.clone(), None).await {
            Err(error) if format!("{error:#}").contains("another tidegate uses") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            started => return started.unwrap(),
        }
    }
    panic!("the folder is still in use");
}

fn client(host: &Host) -> Client {
    let pem = std::fs::read(host.certificate()).unwrap();
    let certificate = reqwest::Certificate::from_pem(&pem).unwrap();
    Client::builder()
        .no_proxy()
        .add_root_certificate(certificate)
        .build()
        .unwrap()
}

impl Started {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, String) {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", "Bearer secret"),
        ];
        let (status, text) = self
            .send(method, path, &headers, body.to_string().into_bytes())
            .await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

#[tokio::test]
async fn one_port_answers_plain_http_and_tls() {
    let started = start(|_| {}).await;
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{}/health", started.host.gateway());
        let answer = started.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{scheme}");
        assert!(answer.headers().contains_key("x-request-id"));
        assert_eq!(answer.headers()["traceparent"].len(), 55);
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "ok");
    }
    started.host.drain().await;
}

#[tokio::test]
async fn an_object_is_written_read_in_ranges_and_replaced_on_conditions() {
    let started = start(|_| {}).await;
    let path = "/api/v1/objects/data/a%20b/%C3%BC.txt";
    let (status, told) = started
        .send(
            Method::PUT,
            path,
            &[("content-type", "text/plain")],
            b"hello tide".to_vec(),
        )
        .await;
    assert_eq!(status, 200, "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["key"], "a b/ü.txt");
    assert_eq!(
        started.send(Method::GET, path, &[], Vec::new()).await,
        (200, "hello tide".into())
    );
    assert_eq!(
        started
            .send(Method::GET, path, &[("range", "bytes=6-")], Vec::new())
            .await,
        (206, "tide".into())
    );
    assert_eq!(
        started
            .send(Method::GET, path, &[("range", "bytes=90-")], Vec::new())
            .await
            .0,
        416
    );
    assert_eq!(
        started
            .send(Method::PUT, path, &[("if-none-match", "*")], b"x".to_vec())
            .await
            .0,
        412
    );
    assert_eq!(
        started
            .send(Method::PUT, path, &[("if-match", "\"no\"")], b"x".to_vec())
            .await
            .0,
        412
    );
    let etag = format!("\"{}\"", told["etag"].as_str().unwrap());
    assert_eq!(
        started
            .send(Method::PUT, path, &[("if-match", &etag)], b"x".to_vec())
            .await
            .0,
        200
    );
    assert_eq!(started.send(Method::DELETE, path, &[], Vec::new()).await.0, 204);
    assert_eq!(started.send(Method::GET, path, &[], Vec::new()).await.0, 404);
    let (status, told) = started
        .send(Method::PUT, "/api/v1/objects/nobucket/k", &[], b"x".to_vec())
        .await;
    assert!(status == 404 && told.contains("`nobucket`"), "{told}");
    let (status, _) = started
        .send(Method::GET, "/api/v1/objects/$components/k", &[], Vec::new())
        .await;
    assert_eq!(status, 404);
    started.host.drain().await;
}

#[tokio::test]
async fn bodies_over_the_bound_are_refused_and_nothing_is_written() {
    let started = start(|config| {
        config.gateway.max_object = 1000;
        config.gateway.max_body = 1024;
    })
    .await;
    let (status, told) = started
        .send(Method::PUT, "/api/v1/objects/data/k", &[], vec![0; 1001])
        .await;
    assert!(status == 413 && told.contains("1000"), "{status} {told}");
    let chunks = futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(vec![0; 100])));
    let request = started
        .client
        .put(format!("{}/api/v1/objects/data/k", started.base));
    let answer = request
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        started
            .send(Method::GET, "/api/v1/objects/data/k", &[], Vec::new())
            .await
            .0,
        404
    );
    assert_eq!(
        started.send(Method::POST, "/predict", &[], vec![0; 2000]).await.0,
        413
    );
    let event = json!({ "type": "T", "data": "x".repeat(2000) });
    assert_eq!(started.json(Method::POST, "/api/v1/events", event).await.0, 413);
    started.host.drain().await;
}

#[tokio::test]
async fn slow_and_broken_clients_are_cut_off_and_the_host_goes_on() {
    let started = start(|config| config.gateway.head_timeout = Duration::from_millis(300)).await;
    for start in [
        &b""[..],
        b"P",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"\x16\x03\x01",
        b"\0\0\0\0nonsense\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(started.host.gateway()).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "still open after {start:?}");
    }
    assert_eq!(started.send(Method::GET, "/health", &[], Vec::new()).await.0, 200);
    started.host.drain().await;
}

#[tokio::test]
async fn mistakes_are_told_as_json() {
    let started = start(|_| {}).await;
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::GET, "/api/v1/nothing", 404),
        (Method::PUT, "/api/v1/runs", 405),
        (Method::GET, "/api/v1/runs?limit=0", 400),
        (Method::GET, "/api/v1/runs?limt=5", 400),
        (Method::GET, "/api/v1/runs/none", 404),
        (Method::GET, "/api/v1/models/none", 404),
        (Method::GET, "/api/v1/events", 400),
    ] {
        let (found, told) = started.json(method.clone(), path, Value::Null).await;
        assert_eq!(found, status, "{method} {path}");
        assert!(told["error"]["message"].is_string(), "{method} {path}: {told}");
    }
    for body in [
        json!({}),
        json!({ "type": "" }),
        json!({ "type": "tidegate.x" }),
        json!({ "type": "A", "x": 1 }),
    ] {
        let (status, told) = started.json(Method::POST, "/api/v1/events", body.clone()).await;
        assert!(
            (400..=422).contains(&status) && told["error"]["message"].is_string(),
            "{body}: {status} {told}"
        );
    }
    let (status, told) = started
        .json(Method::POST, "/api/v1/functions/none/invoke", json!({}))
        .await;
    assert!(
        status == 404 && told["error"]["message"].as_str().unwrap().contains("`none`"),
        "{told}"
    );
    started.host.drain().await;
}

#[tokio::test]
async fn a_web_page_cannot_steer_the_host() {
    let started = start(|_| {}).await;
    let get = |headers: [(&'static str, &'static str); 1]| {
        let started = &started;
        async move {
            started
                .send(Method::GET, "/api/v1/runs", &headers, Vec::new())
                .await
                .0
        }
    };
    assert_eq!(get([("host", "rebound.example")]).await, 403);
    assert_eq!(get([("origin", "https://evil.example")]).await, 403);
    assert_eq!(get([("origin", "http://localhost:3000")]).await, 200);
    let plain = started
        .send(
            Method::POST,
            "/api/v1/events",
            &[("content-type", "text/plain")],
            b"{}".to_vec(),
        )
        .await;
    assert_eq!(plain.0, 415);
    started.host.drain().await;
}

#[tokio::test]
async fn workers_need_their_token_and_a_lease() {
    let started = start(|_| {}).await;
    let (status, _) = started
        .send(
            Method::POST,
            "/worker/v1/lease",
            &[("authorization", "Bearer no")],
            Vec::new(),
        )
        .await;
    assert_eq!(status, 401);
    let register = json!({ "worker": "w", "devices": [{ "kind": "cpu" }], "kinds": ["k"], "inference_addr": "127.0.0.1:1" });
    assert_eq!(
        started.json(Method::POST, "/worker/v1/register", register).await,
        (200, json!({}))
    );
    let lease = json!({ "worker": "w", "kinds": ["k"], "wait_ms": 50 });
    assert_eq!(started.json(Method::POST, "/worker/v1/lease", lease).await.0, 204);
    for end in ["heartbeat", "complete", "fail"] {
        let (status, _) = started
            .json(
                Method::POST,
                &format!("/worker/v1/jobs/J/{end}"),
                json!({ "token": "t" }),
            )
            .await;
        assert_eq!(status, 409, "{end}");
    }
    assert_eq!(
        started
            .json(Method::GET, "/worker/v1/objects/data/k", Value::Null)
            .await
            .0,
        403
    );
    assert_eq!(
        started
            .json(Method::PUT, "/worker/v1/objects/data/k", Value::Null)
            .await
            .0,
        403
    );
    let lost = [("authorization", "Bearer secret"), ("x-tidegate-lease", "gone")];
    assert_eq!(
        started
            .send(Method::GET, "/worker/v1/objects/data/k", &lost, Vec::new())
            .await
            .0,
        409
    );
    started.host.drain().await;
}

#[tokio::test]
async fn followers_see_events_and_end_with_the_host() {
    let started = start(|_| {}).await;
    let url = format!("{}/api/v1/events?follow=true", started.base);
    let mut stream = started.client.get(url).send().await.unwrap();
    let (status, told) = started
        .json(
            Method::POST,
            "/api/v1/events",
            json!({ "type": "A", "data": { "x": 1 } }),
        )
        .await;
    assert_eq!(status, 200);
    let mut seen = String::new();
    while !seen.contains("\n\n") {
        seen.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
    }
    let notice: Value = serde_json::from_str(seen.trim().strip_prefix("data:").unwrap()).unwrap();
    assert_eq!(notice["event"], told["id"]);
    assert_eq!(notice["data"]["x"], 1);
    let ended = tokio::spawn(async move { while let Ok(Some(_)) = stream.chunk().await {} });
    started.host.drain().await;
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = start(|config| config.data_dir.clone_from(&data)).await;
    assert_eq!(
        first
            .send(Method::PUT, "/api/v1/objects/data/k", &[], b"kept".to_vec())
            .await
            .0,
        200
    );
    let certificate = std::fs::read(first.host.certificate()).unwrap();
    let Started { host, client, .. } = first;
    drop(client);
    host.drain().await;
    let second = start(|config| config.data_dir.clone_from(&data)).await;
    assert_eq!(
        second
            .send(Method::GET, "/api/v1/objects/data/k", &[], Vec::new())
            .await,
        (200, "kept".into())
    );
    assert_eq!(std::fs::read(second.host.certificate()).unwrap(), certificate);
    second.host.drain().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_its_answer_is_cut_off() {
    let started = start(|config| {
        config.gateway.max_connections = 2;
        config.gateway.write_timeout = Duration::from_millis(300);
    })
    .await;
    let path = "/api/v1/objects/data/large";
    let (status, told) = started.send(Method::PUT, path, &[], vec![7; 64 << 20]).await;
    assert_eq!(status, 200, "{told}");
    // The client's own connection is one of the two; another client has to wait for the end of the deaf one's.
    let mut deaf = TcpStream::connect(started.host.gateway()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    deaf.write_all(request.as_bytes()).await.unwrap();
    let other = client(&started.host);
    let answer = other.get(format!("{}/health", started.base)).send();
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
    let answer = answer
        .expect("the deaf client still holds its connection")
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    started.host.drain().await;
}
