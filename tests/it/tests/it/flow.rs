//! Flow control seen from outside: full queues and rates say so, and when to come again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_harness::{Bucket, Host, until};
use tidegate_it::Scene;

const LIMIT: Duration = Duration::from_secs(120);

/// A step that handles one event, and for which two may wait; and a route that takes one request.
const MANIFEST: &str = r#"
[app]
name = "flow"

[[function]]
name = "step"
component = "tidegate_guests.wasm"
trigger = [{ event = "Do" }, { object = { bucket = "data", prefix = "in/" } }]
grants.objects.read = ["data/in/"]
grants.state.read = ["counters"]
grants.events.emit = ["Echo"]
limits = { backlog = 2 }
rate = { limit = 1, per = "24h" }

[[function]]
name = "greet"
component = "hello_http.wasm"
trigger = [{ http = { method = "POST", route = "/hello/{name}" } }]
grants.state.read = ["hello", "greeted"]
grants.state.write = ["greeted"]
rate = { limit = 1, per = "24h" }
"#;

async fn host(scene: &Scene) -> Result<Host> {
    let manifest = scene.file("tidegate.toml", MANIFEST)?;
    Host::start(scene.options(manifest)).await
}

/// Status, `Retry-After` and words of an upload that an S3 client gives up.
async fn refused_upload(bucket: &Bucket, key: &str) -> Result<(u16, Option<String>, String)> {
    let put = bucket.client.put_object().bucket("data").key(key);
    let refused = put.send().await.err().context("the upload was taken")?;
    let answer = refused.raw_response().context("no answer")?;
    let later = answer.headers().get("retry-after").map(str::to_owned);
    Ok((answer.status().as_u16(), later, format!("{refused:?}")))
}

/// The value of a line of `/metrics`.
async fn metric(host: &Host, name: &str) -> Result<Option<u64>> {
    let text = host.api.get_text("/metrics").await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().context("no number")).transpose()
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_that_find_a_full_queue_are_told_to_come_later() -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene).await?;
    let bucket = host.bucket("data");
    let nothing = || host.api.event("Do", json!({ "do": "nothing" }));
    let first = nothing().await?;
    let run = first["run"].as_str().context("no run")?;
    until("the first event's end", LIMIT, async || {
        let found = host.api.run(run).await?;
        Ok((found.state.as_deref() == Some("done")).then_some(()))
    })
    .await?;
    for _ in 0..2 {
        nothing().await?;
    }
    for (path, body) in [
        ("/api/v1/events", json!({ "type": "Do" })),
        ("/api/v1/functions/step/invoke", json!({})),
    ] {
        let (status, later, body) = host.api.post_told(path, &body).await?;
        assert_eq!((status, later), (503, Some(1)), "{path}: {body}");
        let told = "2 events wait for function `step`, its `limits.backlog` is 2; try again later";
        assert!(body.contains(told), "{path}: {body}");
    }
    let (status, later, told) = refused_upload(&bucket, "in/x").await?;
    assert_eq!((status, later.as_deref()), (503, Some("1")), "{told}");
    assert!(told.contains("SlowDown"), "{told}");
    assert!(bucket.list("in/").await?.is_empty(), "nothing was written");
    assert_eq!(host.api.runs().await?.len(), 3);
    bucket.put("elsewhere/x", "").await?;

    let of_step = "faas_name=\"step\",faas_trigger=\"pubsub\",reason=\"backlog\"";
    let refused = format!("tidegate_triggers_refused_total{{{of_step}}}");
    assert_eq!(metric(&host, &refused).await?, Some(2));
    let of_step = "messaging_system=\"tidegate\",messaging_destination_name=\"step\"";
    for (state, count) in [("ready", 2), ("delayed", 0)] {
        let queue = format!("tidegate_queue_events{{{of_step},state=\"{state}\"}}");
        assert_eq!(metric(&host, &queue).await?, Some(count), "{state}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_the_rate_is_told_when_the_next_may_come() -> Result<()> {
    let scene = Scene::new()?;
    let host = host(&scene).await?;
    let greeted = host.api.post_told("/hello/ada", &Value::Null).await?;
    assert_eq!(greeted.0, 200, "{greeted:?}");
    let (status, later, body) = host.api.post_told("/hello/ada", &Value::Null).await?;
    assert_eq!(status, 429, "{body}");
    assert!(
        body.contains("function `greet` takes 1 requests in 86400s"),
        "{body}"
    );
    let later = later.context("no `Retry-After`")?;
    assert!((1..=86_400).contains(&later), "come again in {later} s");
    let of_greet = "faas_name=\"greet\",faas_trigger=\"http\",reason=\"rate\"";
    let refused = format!("tidegate_triggers_refused_total{{{of_greet}}}");
    assert_eq!(metric(&host, &refused).await?, Some(1));
    Ok(())
}
