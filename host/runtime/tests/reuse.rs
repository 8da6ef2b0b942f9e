//! Instances: fresh for each invocation, unless a function chose to reuse them.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::records::RunState;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::{Platform, PlatformConfig, Traffic};

/// A platform with the functions `plain` (HTTP) and `odd` (events), whose manifests hold `more`.
async fn platform(more: &str) -> (tempfile::TempDir, Arc<Platform>) {
    platform_of(&format!(
        r#"
        [[function]]
        name = "plain"
        component = "tidegate_plain_http.wasm"
        trigger = [{{ http = {{ route = "/{{*rest}}" }} }}]
        limits = {{ cpu_time = "300ms", wall_time = "20s" }}
        {more}

        [[function]]
        name = "odd"
        component = "tidegate_guests.wasm"
        trigger = [{{ event = "Do" }}]
        grants.objects.read = ["data/"]
        grants.state.read = ["counters"]
        grants.events.emit = ["Never"]
        retry = {{ max_attempts = 1 }}
        {more}
        "#
    ))
    .await
}

async fn platform_of(functions: &str) -> (tempfile::TempDir, Arc<Platform>) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!("[app]\nname = \"reuse\"\n{functions}");
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
    (folder, platform)
}

async fn get(platform: &Platform, path: &str) -> (u16, String) {
    let body = Empty::<Bytes>::new().map_err(|never| match never {});
    let request = http::Request::get(format!("http://localhost{path}"))
        .body(body.boxed_unsync())
        .unwrap();
    let routed = platform.route(&request).unwrap_or_else(|_| panic!("no route"));
    let response = platform.http(routed, request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// How many requests the instance that answers now has answered before.
async fn answered_before(platform: &Platform) -> u64 {
    answered_before_at(platform, "/hello").await
}

async fn answered_before_at(platform: &Platform, path: &str) -> u64 {
    let (status, text) = get(platform, path).await;
    assert_eq!(status, 200, "{text}");
    text.split(' ').rev().nth(1).unwrap().parse().unwrap()
}

/// Asks until the answer is `wanted`: the instance is kept a moment after its answer was read.
async fn until_answered_before(platform: &Platform, wanted: u64, pause: Duration) {
    for _ in 0..200 {
        if answered_before(platform).await == wanted {
            return;
        }
        tokio::time::sleep(pause).await;
    }
    panic!("no instance has answered {wanted} before");
}

/// Whether the step of an event ran in an instance that had served another.
async fn was_warm(platform: &Platform, deed: &str) -> bool {
    let data = Bytes::from(format!(r#"{{ "do": "{deed}" }}"#));
    let accepted = platform.emit("Do", None, None, data).await.unwrap();
    loop {
        let run = platform.records().run(&accepted.run).await.unwrap().unwrap();
        if run.state != RunState::Running {
            return run.steps[0].usage.unwrap().warm;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_no_instance_serves_twice() {
    let (_folder, platform) = platform("").await;
    for _ in 0..5 {
        assert_eq!(answered_before(&platform).await, 0);
        assert!(!was_warm(&platform, "nothing").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_as_many_invocations_as_its_function_chose() {
    let (_folder, platform) = platform("reuse = { invocations = 3 }").await;
    until_answered_before(&platform, 2, Duration::from_millis(1)).await;
    assert_eq!(
        answered_before(&platform).await,
        0,
        "the fourth is another's first"
    );
    assert!(!was_warm(&platform, "nothing").await);
    assert!(was_warm(&platform, "nothing").await);
    assert!(was_warm(&platform, "nothing").await);
    assert!(!was_warm(&platform, "nothing").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_trapped_or_hit_a_limit_serves_no_more() {
    let (_folder, platform) = platform("reuse = {}").await;
    until_answered_before(&platform, 1, Duration::from_millis(1)).await;
    // On a busy machine there may be more than one instance by now: each of them traps once, and the next is a fresh one.
    let mut fresh = false;
    for _ in 0..10 {
        let (status, text) = get(&platform, "/trap").await;
        assert!(status == 500 && text.contains("trap"), "{status} {text}");
        fresh |= answered_before(&platform).await == 0;
    }
    assert!(fresh, "an instance that trapped answers again");
    let (status, text) = get(&platform, "/spin").await;
    assert!(status == 500 && text.contains("`cpu_time`"), "{status} {text}");
    assert!(!was_warm(&platform, "trap").await);
    assert!(!was_warm(&platform, "nothing").await);
    assert!(was_warm(&platform, "nothing").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_waits_too_long_is_ended() {
    let (_folder, platform) = platform(r#"reuse = { idle = "20ms" }"#).await;
    until_answered_before(&platform, 1, Duration::from_millis(1)).await;
    until_answered_before(&platform, 0, Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_have_one_component_share_no_instance() {
    let function = |name: &str| {
        format!(
            "[[function]]\nname = \"{name}\"\ncomponent = \"tidegate_plain_http.wasm\"\n\
             trigger = [{{ http = {{ route = \"/{name}/{{*rest}}\" }} }}]\nreuse = {{}}\n"
        )
    };
    let (_folder, platform) = platform_of(&(function("first") + &function("second"))).await;
    let mut is_used_again = false;
    for _ in 0..200 {
        is_used_again |= answered_before_at(&platform, "/first/hello").await > 0;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_used_again);
    assert_eq!(answered_before_at(&platform, "/second/hello").await, 0);
}
