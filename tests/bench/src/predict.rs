//! `/predict` of 100 items beside FastAPI with ONNX Runtime: one core each, the same model, the same bodies.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_harness::{Host, Manifest, Options, until};

use crate::Args;
use crate::load::Load;
use crate::peer::{Peer, free_port};
use crate::table::{Table, duration};

const ITEMS_ASKED: u64 = 100;
const USERS: u64 = 10_000;
const ITEMS: u64 = 50_000;
const BODIES: u64 = 64;
const WARM_UP: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(8);
const TIMES_THE_PEER: f64 = 4.0;
/// The load generator has the other core.
const CORE: usize = 0;

/// Measures it.
pub async fn measure(args: &Args, table: &mut Table) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let model = train(args, &folder).await?;
    let peer = Peer::install(&args.cache, &model, CORE).await?;
    let bare = peer.bare(ITEMS_ASKED).await?;
    let mut options = options(&folder, args)?;
    options.core = Some(CORE);
    let host = Host::start(options).await?;
    let ours = host.api.base().trim_start_matches("http://").to_owned();
    let port = free_port()?;
    for connections in [1, 16] {
        let tidegate = ask(&ours, ITEMS_ASKED, connections).await.context("Tidegate")?;
        let other = {
            let _serving = peer.serve(port).await?;
            ask(&format!("127.0.0.1:{port}"), ITEMS_ASKED, connections)
                .await
                .context("the peer")?
        };
        let what = format!("/predict, 100 items, {connections} connections");
        table.beside(
            &what,
            (tidegate.rate, tidegate.say()),
            (other.rate, format!("FastAPI {}", other.say())),
            TIMES_THE_PEER,
        );
        let p99 = format!("{what}, p99");
        table.beside(
            &p99,
            (1.0 / tidegate.p99, duration(tidegate.p99)),
            (1.0 / other.p99, duration(other.p99)),
            1.0,
        );
    }
    table.plain(
        "ONNX Runtime alone, the same model and batch",
        String::new(),
        duration(bare / 1e3),
    );
    Ok(())
}

/// Asks `/predict` for so many items.
pub async fn ask(address: &str, items: u64, connections: usize) -> Result<crate::load::Answered> {
    let load = Load {
        address: address.to_owned(),
        path: "/predict".to_owned(),
        headers: Vec::new(),
        bodies: bodies(items),
        connections,
    };
    load.run_for(WARM_UP).await?;
    load.run_for(TIME).await
}

fn bodies(count: u64) -> Vec<Bytes> {
    let body = |number: u64| {
        let items: Vec<u64> = (0..count)
            .map(|item| (number * 7919 + item * 499) % ITEMS)
            .collect();
        json!({ "user_id": (number * 157) % USERS, "item_ids": items, "context": { "device": "mobile" } })
    };
    (0..BODIES)
        .map(|number| Bytes::from(body(number).to_string()))
        .collect()
}

/// How to start a host with the app, on the data in this folder.
pub fn options(folder: &TempDir, args: &Args) -> Result<Options> {
    let manifest = Manifest::read(&args.manifest)?.variable("train", "max_epochs", "1")?;
    let manifest = manifest.write(&folder.path().join("tidegate.toml"))?;
    let env = vec![("RUST_LOG".to_owned(), "warn".to_owned())];
    Ok(Options {
        manifest: Some(manifest),
        data_dir: Some(folder.path().join("data")),
        env,
        ..Options::default()
    })
}

/// Trains a model of the app's usual shape on both cores; its file. How good it is does not matter here.
pub async fn train(args: &Args, folder: &TempDir) -> Result<Vec<u8>> {
    eprintln!("    training a model of the app's usual shape");
    let mut host = Host::start(options(folder, args)?).await?;
    let request = json!({ "users": USERS, "items": ITEMS, "interactions": 100_000, "days": 30, "seed": 3 });
    host.api.event("GenerateRequested", request).await?;
    let limit = Duration::from_secs(600);
    let model = until("a model", limit, async || {
        Ok(host.api.model("ranker").await.ok().filter(is_registered))
    })
    .await?;
    let place = artifact(&model).with_context(|| format!("no model file in {model}"))?;
    let file = host.bucket(&place.0).get(&place.1).await?;
    host.interrupt()?;
    host.exited().await?;
    Ok(file)
}

fn is_registered(model: &Value) -> bool {
    model["versions"]
        .as_array()
        .is_some_and(|versions| !versions.is_empty())
}

/// Bucket and key of the first version's file, wherever its record names them.
fn artifact(value: &Value) -> Option<(String, String)> {
    match value {
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            match (text("bucket"), text("key")) {
                (Some(bucket), Some(key)) if key.ends_with(".onnx") => Some((bucket, key)),
                _ => fields.values().find_map(artifact),
            }
        }
        Value::Array(all) => all.iter().find_map(artifact),
        _ => None,
    }
}
