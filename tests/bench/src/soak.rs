//! Requests for as long as one likes, while models are loaded and unloaded and versions take each other's place: whether memory
//! stays flat, and nobody gets an error that is not of their own making.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidegate_harness::{Api, Host, Options};

use crate::Args;
use crate::inference::register;
use crate::rivals::Models;
use crate::stage;
use crate::table::{Table, whole};

/// Memory for models: some versions of a small one, so that old ones give way within the first minute.
const CONFIG: &str = "[inference]\nmemory = \"64MiB\"\n";
/// Always in service, while its champion changes.
const STEADY: &str = "steady";
/// Taken out of service and put in again.
const RESTLESS: &str = "restless";
const CLIENTS: usize = 8;
/// Between two acts of the operator.
const PACE: Duration = Duration::from_millis(250);
/// Of so many acts one is another champion.
const ACTS_A_SWAP: u32 = 20;
const WARM_UP: Duration = Duration::from_secs(30);
const MEGABYTES_MORE: f64 = 64.0;

/// Answers by model, status and what they said.
type Outcomes = Arc<Mutex<BTreeMap<String, u64>>>;

/// Measures it for as many minutes as are asked for.
pub async fn measure(args: &Args, table: &mut Table) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let models = Models::write(&folder.path().join("models"), &args.cache, b"", 0).await?;
    let file = std::fs::read(models.file("mlp"))?;
    let config = folder.path().join("host.toml");
    std::fs::write(&config, CONFIG).context("cannot write the host's configuration")?;
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let host = Host::start(Options {
        manifest: Some(args.manifest.clone()),
        env: vec![
            variable("RUST_LOG", "warn".to_owned()),
            variable("TIDEGATE_CONFIG", config.display().to_string()),
        ],
        ..Options::default()
    })
    .await?;
    for name in [STEADY, RESTLESS] {
        register(&host, name, file.clone()).await?;
    }
    let (outcomes, over) = (Outcomes::default(), Arc::new(AtomicBool::new(false)));
    let clients = (0..CLIENTS).map(|number| {
        let model = if number % 4 == 0 { RESTLESS } else { STEADY };
        tokio::spawn(ask(host.api.clone(), model, outcomes.clone(), over.clone()))
    });
    let clients: Vec<_> = clients.collect();
    operate(&host, WARM_UP, &file).await?;
    let before = stage::resident_of_all(host.pid())?;
    operate(&host, Duration::from_secs(60 * args.minutes), &file).await?;
    let after = stage::resident_of_all(host.pid())?;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.context("a client's task ended")??;
    }
    tell(table, args.minutes, [before, after], &outcomes);
    Ok(())
}

fn tell(table: &mut Table, minutes: u64, memory: [f64; 2], outcomes: &Outcomes) {
    let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    let [before, after] = memory.map(|bytes| bytes / 1e6);
    table.at_most(
        &format!(
            "soak of {minutes} minutes: megabytes more than after its first {}",
            WARM_UP.as_secs()
        ),
        (after - before).max(0.0),
        MEGABYTES_MORE,
    );
    table.plain(
        "host and worker",
        format!("{} MB", whole(after)),
        format!("{} MB", whole(before)),
    );
    let mut wrong = 0;
    for (outcome, &count) in outcomes.iter() {
        let own =
            outcome.ends_with(" 200") || (outcome.starts_with(RESTLESS) && outcome.contains("is unloaded"));
        wrong += if own { 0 } else { count };
        table.plain(&format!("answers: {outcome}"), whole(count as f64), String::new());
    }
    table.at_most("errors that no client caused", wrong as f64, 0.0);
}

/// Asks again as soon as it is answered.
async fn ask(api: Api, model: &'static str, outcomes: Outcomes, over: Arc<AtomicBool>) -> Result<()> {
    let data = vec![0.5; 32];
    let body =
        json!({ "inputs": [{ "name": "features", "shape": [1, 32], "datatype": "FP32", "data": data }] });
    let (path, body) = (format!("/v2/models/{model}/infer"), body.to_string().into_bytes());
    while !over.load(Ordering::Relaxed) {
        let (status, text) = api.post_raw(&path, body.clone()).await?;
        let said = match status {
            200 => String::new(),
            _ => {
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                format!(": {}", answer["error"].as_str().unwrap_or(&text))
            }
        };
        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry(format!("{model} {status}{said}")).or_default() += 1;
    }
    Ok(())
}

/// Takes one model out of service and puts it in again, and gives the other one champions.
async fn operate(host: &Host, time: Duration, file: &[u8]) -> Result<()> {
    let started = Instant::now();
    let mut acts: u32 = 0;
    while started.elapsed() < time {
        let act = if acts.is_multiple_of(2) { "unload" } else { "load" };
        let path = format!("/v2/repository/models/{RESTLESS}/{act}");
        host.api.post(&path, &json!({})).await?;
        acts += 1;
        if acts.is_multiple_of(ACTS_A_SWAP) {
            host.bucket("models")
                .put("steady/next.onnx", file.to_vec())
                .await?;
            let next =
                json!({ "name": STEADY, "bucket": "models", "key": "steady/next.onnx", "alias": "champion" });
            host.api.post("/api/v1/models", &next).await?;
        }
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}
