//! The cold start of a Lambda function: from the start of its process until it takes its first invocation, which waits
//! already, and until that is answered. The package is the one that is uploaded; the services it calls are on this machine.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::{Lambda, Servers};

use crate::table::{Table, duration, percentile};

const STARTS: usize = 20;
const VISIBILITY: Duration = Duration::from_secs(10);
const LIMIT_MS: f64 = 30.0;

const APP: &str = r#"
[app]
name = "hello"

[[function]]
name = "hello-http"
component = "hello_http.wasm"
trigger = [{ http = { method = "POST", route = "/hello/{name}" } }, { http = { route = "/hello/{name}" } }]
grants.state.read = ["hello", "greeted"]
grants.state.write = ["greeted"]
"#;

/// Measures it.
pub async fn measure(table: &mut Table) -> Result<()> {
    let servers = Servers::start().await?;
    let settings = servers.settings("lambda");
    let _made = Cloud::open(settings).await?;
    let folder = tempfile::tempdir()?;
    Lambda::pack_whole(folder.path(), APP, &servers.config("lambda", VISIBILITY)).await?;
    let scratch = tempfile::tempdir()?;
    let first = Lambda::start(folder.path(), scratch.path()).await?;
    let deployed = first.invoke(json!({ "tidegate": "deploy" })).await?;
    ensure!(deployed.ok, "{:?}", deployed.json());
    drop(first);
    let (mut took, mut answered) = (Vec::with_capacity(STARTS), Vec::with_capacity(STARTS));
    for _ in 0..STARTS {
        let started = Instant::now();
        let function = Lambda::start(folder.path(), scratch.path()).await?;
        let answer = function.invoke(request()).await?;
        answered.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(answer.ok, "{:?}", answer.json());
        let handed = function.first_handed().context("it took no invocation")?;
        took.push(handed.duration_since(started).as_secs_f64() * 1000.0);
    }
    let (middle, high) = (percentile(&mut took, 0.5), percentile(&mut took, 0.9));
    let more = format!(" (p90 {})", duration(high));
    let what = "Lambda, start of the process to its first handler, p50";
    table.under(what, middle, LIMIT_MS, &more);
    let (middle, high) = (percentile(&mut answered, 0.5), percentile(&mut answered, 0.9));
    let answer = format!("{} (p90 {})", duration(middle), duration(high));
    table.plain("the same, to the first answer, p50", answer, String::new());
    Ok(())
}

fn request() -> serde_json::Value {
    json!({
        "version": "2.0",
        "rawPath": "/hello/nobody",
        "rawQueryString": "",
        "headers": {},
        "requestContext": { "http": { "method": "GET" }, "stage": "$default" },
    })
}
