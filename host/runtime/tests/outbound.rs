//! Requests that guests send out: to what is granted, and not behind another spelling to this machine.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::{Platform, PlatformConfig, Traffic};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const REDIRECT: &[u8] =
    b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";

/// A server on loopback that redirects every request; its port, and how many came.
async fn server() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _read = stream.read(&mut head).await;
            stream.write_all(REDIRECT).await.ok();
        }
    });
    (port, asked)
}

/// What a guest is told that is granted `host` and asks `url`.
async fn told(host: &str, url: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        r#"
        [app]
        name = "outbound"

        [[function]]
        name = "plain"
        component = "tidegate_plain_http.wasm"
        trigger = [{{ http = {{ route = "/{{*rest}}" }} }}]
        grants.http.hosts = ["{host}"]
        "#
    );
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, manifest).unwrap();
    let store = Arc::new(Embedded::open(&folder.path().join("data")).unwrap());
    let mut config = PlatformConfig::new(folder.path().join("data"));
    config.component_dirs = vec![Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("functions")];
    let platform = Platform::open(config, store, Arc::new(NoInference))
        .await
        .unwrap();
    platform
        .deploy(&file, Traffic::All)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let body = Empty::<Bytes>::new().map_err(|never| match never {});
    let request = http::Request::get(format!("http://localhost/fetch?{url}")).body(body.boxed_unsync());
    let request = request.unwrap();
    let routed = platform.route(&request).unwrap_or_else(|_| panic!("no route"));
    let response = platform.http(routed, request).await;
    let told = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(told.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_host_is_asked_and_its_redirects_are_not_followed() {
    let (port, asked) = server().await;
    for host in ["127.0.0.1", "localhost"] {
        let told = told(&format!("{host}:{port}"), &format!("http://{host}:{port}/x")).await;
        assert_eq!(told, "302 Found");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_granted_is_not_asked_under_any_spelling() {
    let (port, asked) = server().await;
    let spellings = [
        ("example.com", format!("http://127.0.0.1:{port}/")),
        ("example.com", format!("http://example.com@127.0.0.1:{port}/")),
        ("example.com", format!("http://example.com.localhost:{port}/")),
        ("127.0.0.1:1", format!("http://127.0.0.1:{port}/")),
        ("127.1", format!("http://127.1:{port}/")),
        ("2130706433", format!("http://2130706433:{port}/")),
        ("0x7f000001", format!("http://0x7f000001:{port}/")),
        ("[::ffff:7f00:1]:1", format!("http://[::ffff:7f00:1]:{port}/")),
    ];
    for (granted, url) in spellings {
        let told = told(granted, &url).await;
        assert!(
            told.contains("HttpRequestDenied") || told.contains("Invalid"),
            "{url}: {told}"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
