//! The host as a Lambda function: the real program, asked as Lambda asks it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::{Lambda, Outside, Servers};
use tidegate_harness::until;
use tidegate_runtime::store::Store;

const LIMIT: Duration = Duration::from_secs(240);
const VISIBILITY: Duration = Duration::from_secs(10);
/// The queue that Lambda's event source is.
const INTAKE: &str = "tides-intake";
const BUCKET: &str = "acme-raw";
const TEXT: &str = "the tide is coming in";
/// Its entity tag: the MD5.
const TEXT_ETAG: &str = "388bcf40ed97c8b90cf7d8309893d3ea";

const APP: &str = r#"
[app]
name = "tides"

[[function]]
name = "hello"
component = "hello.wasm"
trigger = [{ object = { bucket = "acme", suffix = ".txt" } }]
grants.objects.read = ["acme/"]
grants.state.write = ["hello"]
grants.events.emit = ["TextCounted"]

[[function]]
name = "hello-http"
component = "hello_http.wasm"
trigger = [
    { http = { method = "GET", route = "/hello/{name}" } },
    { http = { method = "POST", route = "/hello/{name}" } },
]
grants.state.read = ["hello", "greeted"]
grants.state.write = ["greeted"]

[[function]]
name = "count"
component = "tidegate_guests.wasm"
trigger = [{ schedule = { cron = "* * * * * *", data = '{"do": "count", "key": "ticks"}' } }]
grants.objects.read = ["acme/"]
grants.state.read = ["counters"]
grants.state.write = ["counters"]
grants.events.emit = ["Echo"]
"#;

/// A function, and what stands around it.
struct Scene {
    lambda: Lambda,
    outside: Outside,
    store: Cloud,
    config: String,
    folder: TempDir,
    _servers: Servers,
}

impl Scene {
    /// Starts a function with its app deployed.
    async fn new(more: &str) -> Result<Self> {
        let servers = Servers::start().await?;
        let settings = servers.settings("tides");
        let store = Cloud::open(settings.clone()).await?;
        let outside = servers.outside();
        outside.queue(INTAKE, 30).await?;
        outside.bucket_with_notices(BUCKET, "acme-notices").await?;
        let folder = TempDir::new()?;
        let (package, scratch) = (folder.path().join("task"), folder.path().join("scratch"));
        std::fs::create_dir(&package)?;
        std::fs::create_dir(&scratch)?;
        let config = servers
            .config("tides", VISIBILITY)
            .replace("[worker]", &format!("intake = \"{INTAKE}\"\n[worker]"));
        let endpoint = &outside.endpoint;
        let attached = format!("[attached.acme]\nbucket = \"{BUCKET}\"\nendpoint = \"{endpoint}\"\n");
        let config = config + &attached + more;
        Lambda::pack(&package, APP, &config)?;
        let scene = Self {
            lambda: Lambda::start(&package, &scratch).await?,
            outside,
            store,
            config,
            folder,
            _servers: servers,
        };
        let deployed = scene.ask(json!({ "tidegate": "deploy" })).await?;
        assert_eq!(
            deployed["functions"].as_array().map(Vec::len),
            Some(3),
            "{deployed}"
        );
        Ok(scene)
    }

    /// Invokes the function; an error of it is the test's.
    async fn ask(&self, event: Value) -> Result<Value> {
        let answer = self.lambda.invoke(event).await?;
        let said = answer.json()?;
        anyhow::ensure!(answer.ok, "{said}\n{}", self.lambda.told());
        Ok(said)
    }

    /// A request, as a function URL sends it.
    async fn http(&self, method: &str, path: &str) -> Result<Value> {
        self.ask(request(method, path)).await
    }

    /// Hands on what waits in the queue, as Lambda's event source does, together with more messages; which of all were
    /// told back.
    async fn pump(&self, more: &[(&str, &str)]) -> Result<Vec<String>> {
        let waiting = self.outside.receive(INTAKE).await?;
        let record =
            |id: &str, body: &str| json!({ "messageId": id, "body": body, "eventSource": "aws:sqs" });
        let mut records: Vec<Value> = more.iter().map(|(id, body)| record(id, body)).collect();
        records.extend(waiting.iter().map(|(id, _, body)| record(id, body)));
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.ask(json!({ "Records": records })).await?;
        let failures = answer["batchItemFailures"]
            .as_array()
            .context("no list of failures")?;
        let failures = failures
            .iter()
            .filter_map(|failure| failure["itemIdentifier"].as_str());
        let failures: Vec<String> = failures.map(str::to_owned).collect();
        for (id, receipt, _) in &waiting {
            if !failures.contains(id) {
                self.outside.delete(INTAKE, receipt).await?;
            }
        }
        Ok(failures)
    }
}

fn request(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": { "host": "id.lambda-url.us-east-1.on.aws" },
        "requestContext": { "http": { "method": method, "path": path }, "stage": "$default" },
        "isBase64Encoded": false
    })
}

fn written(key: &str, size: usize, etag: &str) -> Value {
    json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
        "eventTime": "2030-01-01T00:00:00.000Z", "eventName": "ObjectCreated:Put",
        "responseElements": { "x-amz-request-id": "R", "x-amz-id-2": "H" },
        "s3": { "bucket": { "name": BUCKET }, "object": { "key": key, "size": size, "eTag": etag, "sequencer": "0A" } }
    }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_answers_requests_handles_messages_takes_notices_and_fires_schedules() -> Result<()> {
    let scene = Scene::new("").await?;
    let greeted = scene.http("POST", "/hello/tide").await?;
    assert_eq!(
        (
            greeted["statusCode"].as_u64(),
            greeted["isBase64Encoded"].as_bool()
        ),
        (Some(200), Some(false))
    );
    let body: Value = serde_json::from_str(greeted["body"].as_str().unwrap_or_default())?;
    assert_eq!(body, json!({ "name": "tide", "greetings": 1 }));
    assert_eq!(scene.http("GET", "/nowhere").await?["statusCode"], 404);
    assert!(scene.store.get("greeted", "tide").await?.is_some());

    // A notice of S3 puts the object into the index, and an event into the queue.
    scene.outside.put(BUCKET, "tide.txt", TEXT).await?;
    scene.ask(written("tide.txt", TEXT.len(), TEXT_ETAG)).await?;
    let mut told_back = Vec::new();
    until("the words are counted", LIMIT, async || {
        told_back = scene.pump(&[("poison", "no message of ours")]).await?;
        let answer = scene.http("GET", "/hello/tide").await?;
        Ok(answer["body"]
            .as_str()
            .is_some_and(|body| body.contains("\"words\":5"))
            .then_some(()))
    })
    .await
    .with_context(|| scene.lambda.told())?;
    assert_eq!(told_back, ["poison"], "what spoils a batch comes again alone");

    until("a schedule fires", LIMIT, async || {
        scene
            .ask(json!({ "source": "aws.events", "detail-type": "Scheduled Event" }))
            .await?;
        scene.pump(&[]).await?;
        Ok(scene.store.get("counters", "ticks").await?.map(drop))
    })
    .await
    .with_context(|| scene.lambda.told())?;

    let answer = scene.lambda.invoke(json!({ "order": 7 })).await?;
    assert!(
        !answer.ok && answer.json()?["errorType"] == "Tidegate.Unknown",
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packaged_function_finds_what_is_deployed_compiles_nothing_and_streams_its_answer() -> Result<()> {
    let scene = Scene::new("[lambda]\ninvoke_mode = \"response_stream\"\n").await?;
    let (package, scratch) = (
        scene.folder.path().join("package"),
        scene.folder.path().join("fresh"),
    );
    std::fs::create_dir(&package)?;
    std::fs::create_dir(&scratch)?;
    Lambda::pack_whole(&package, APP, &scene.config).await?;
    let fresh = Lambda::start(&package, &scratch).await?;
    let answer = fresh.invoke(request("POST", "/hello/tide")).await?;
    assert_eq!(
        answer.headers["lambda-runtime-function-response-mode"],
        "streaming"
    );
    let zeros = answer.body.windows(8).position(|piece| piece == [0; 8]);
    let (head, body) = answer.body.split_at(zeros.context("a stream without a head")?);
    let head: Value = serde_json::from_slice(head)?;
    assert_eq!(
        (
            head["statusCode"].as_u64(),
            head["headers"]["content-type"].as_str()
        ),
        (Some(200), Some("application/json"))
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&body[8..])?,
        json!({ "name": "tide", "greetings": 1 })
    );
    assert!(
        !scratch.join("cache").exists(),
        "the package has the machine code"
    );
    Ok(())
}
