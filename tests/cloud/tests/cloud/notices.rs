//! Buckets of others: what S3 tells of them is in the index, and nothing else changes it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_cloud_tests::{Outside, Servers};
use tidegate_harness::{Api, Host, Options, until};

const LIMIT: Duration = Duration::from_secs(240);
const VISIBILITY: Duration = Duration::from_secs(10);
const QUEUE: &str = "acme-notices";
const BUCKET: &str = "acme-raw";

const APP: &str = r#"
[app]
name = "reads"

[[function]]
name = "hello"
component = "hello.wasm"
trigger = [{ object = { bucket = "acme", prefix = "in/", suffix = ".txt" } }]
grants.objects.read = ["acme/in/"]
grants.state.write = ["hello"]
grants.events.emit = ["TextCounted"]
retry = { max_attempts = 1 }

[[function]]
name = "hello-http"
component = "hello_http.wasm"
trigger = [{ http = { method = "GET", route = "/hello/{name}" } }]
grants.state.read = ["hello", "greeted"]
grants.state.write = ["greeted"]
"#;

/// A host with a bucket of others, in another S3 than its own.
struct Scene {
    host: Host,
    outside: Outside,
    folder: TempDir,
    _servers: Servers,
}

impl Scene {
    async fn new() -> Result<Self> {
        let servers = Servers::start().await?;
        let outside = servers.outside();
        outside.bucket_with_notices(BUCKET, QUEUE).await?;
        let folder = TempDir::new()?;
        let attached = format!(
            "[attached.acme]\nbucket = \"{BUCKET}\"\nprefix = \"in/\"\nqueue = \"{QUEUE}\"\nendpoint = \"{}\"\n",
            outside.endpoint
        );
        let path = folder.path().join("config.toml");
        std::fs::write(&path, servers.config("notices", VISIBILITY) + &attached)?;
        let manifest = folder.path().join("tidegate.toml");
        std::fs::write(&manifest, APP)?;
        let host = Host::start(Options {
            manifest: Some(manifest),
            env: vec![("TIDEGATE_CONFIG".into(), path.display().to_string())],
            ..Options::default()
        })
        .await?;
        Ok(Self {
            host,
            outside,
            folder,
            _servers: servers,
        })
    }

    fn api(&self) -> &Api {
        &self.host.api
    }

    async fn counts(&self, name: &str, words: u64) -> Result<()> {
        let expected = format!("\"words\":{words}");
        until(&format!("{words} words of {name}"), LIMIT, async || {
            let (_, text) = self.api().get_raw(&format!("/hello/{name}")).await?;
            Ok(text.contains(&expected).then_some(()))
        })
        .await
        .with_context(|| self.host.log_tail())
    }

    /// The objects of the bucket, as the host lists them.
    async fn listed(&self) -> Result<Vec<String>> {
        self.host.bucket("acme").list("").await
    }

    /// How many runs there have been.
    async fn runs(&self) -> Result<usize> {
        Ok(self.api().runs().await?.len())
    }
}

fn notice(key: &str, name: &str, sequencer: &str) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2030-01-01T00:00:00.000Z", "eventName": name,
        "s3": { "bucket": { "name": BUCKET }, "object": { "key": key, "size": 3, "eTag": "e", "sequencer": sequencer } }
    }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_attached_bucket_fire_are_read_and_go() -> Result<()> {
    let scene = Scene::new().await?;
    // What S3 sends first, what is no notice, and what is outside of the prefix hold up nothing.
    let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET });
    scene.outside.send(QUEUE, &test.to_string()).await?;
    scene.outside.send(QUEUE, "no notice at all").await?;
    scene.outside.put(BUCKET, "elsewhere/x.txt", "not ours").await?;
    scene
        .outside
        .put(BUCKET, "in/high tide/sea.txt", "the tide is coming in")
        .await?;
    scene.counts("sea", 5).await?;
    assert_eq!(scene.listed().await?, ["in/high tide/sea.txt"]);
    assert_eq!(
        scene.host.bucket("acme").get("in/high tide/sea.txt").await?,
        b"the tide is coming in"
    );
    scene
        .outside
        .put(BUCKET, "in/high tide/sea.txt", "it went out")
        .await?;
    scene.counts("sea", 3).await?;
    let runs = scene.runs().await?;
    // In an envelope, out of order and twice: of one object only the latest notice counts, and once.
    scene.outside.put(BUCKET, "in/order.txt", "one two three").await?;
    scene.counts("order", 3).await?;
    for name in ["ObjectCreated:Put", "ObjectRemoved:Delete"] {
        let stale = notice("in/order.txt", name, "0000");
        let envelope = json!({ "Type": "Notification", "Message": stale.to_string() });
        scene.outside.send(QUEUE, &envelope.to_string()).await?;
    }
    scene.outside.remove(BUCKET, "in/high tide/sea.txt").await?;
    until("the removal", LIMIT, async || {
        Ok((scene.listed().await? == ["in/order.txt"]).then_some(()))
    })
    .await?;
    assert_eq!(scene.runs().await?, runs + 1, "one upload is one run");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_notices_change_an_attached_bucket_and_what_changed_since_is_not_read() -> Result<()> {
    let scene = Scene::new().await?;
    let refused = scene.host.bucket("acme").put("in/mine.txt", "mine").await;
    assert!(refused.is_err());
    let manifest = scene.folder.path().join("writes.toml");
    let grant = "grants.objects.read = [\"acme/in/\"]\ngrants.objects.write = [\"acme/out/\"]";
    let text = APP
        .replace("\"reads\"", "\"writes\"")
        .replace("grants.objects.read = [\"acme/in/\"]", grant);
    std::fs::write(&manifest, text)?;
    let body = json!({ "manifest": manifest }).to_string();
    let (status, told) = scene.api().post_raw("/api/v1/deploy", body.into()).await?;
    assert!(status >= 400, "{told}");
    assert!(
        told.contains("function.hello.grants.objects.write: bucket `acme` belongs to others"),
        "{told}"
    );
    // The notice tells of bytes that are not there any more.
    scene.outside.put(BUCKET, "in/gone.txt", "other bytes").await?;
    scene.counts("gone", 2).await?;
    let forged = notice("in/gone.txt", "ObjectCreated:Put", "00FF");
    scene.outside.send(QUEUE, &forged.to_string()).await?;
    let letter = until("the dead letter", LIMIT, async || {
        let letters = scene.api().get("/api/v1/dlq").await?;
        Ok(letters["letters"].get(0).cloned())
    })
    .await?;
    let reason = letter["reason"].as_str().unwrap_or_default();
    let expected = "`acme/in/gone.txt` was written over or removed in `s3://acme-raw` after its notice";
    assert!(reason.contains(expected), "{reason}");
    Ok(())
}
