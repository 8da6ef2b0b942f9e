//! Models behind the Open Inference Protocol and behind `/predict`, beside FastAPI, MLServer and ONNX Runtime alone: the same
//! files, the same bodies, one core each.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_harness::{Host, until};

use crate::Args;
use crate::load::{Answered, Load};
use crate::peer::{Peer, free_port};
use crate::predict;
use crate::rivals::{Models, Rival};
use crate::stage;
use crate::table::{Table, duration, whole};

const CONNECTIONS: [usize; 3] = [1, 16, 256];
const WARM_UP: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(120);
/// The load generator has the other core.
const CORE: usize = 0;
const TIMES_FAST_API: f64 = 10.0;
const TIMES_ITS_P99: f64 = 3.0;
const OF_THE_BARE_RUNTIME: f64 = 0.9;
const TIMES_ML_SERVERS_MEMORY: f64 = 2.0;

/// What is asked: a model, and of how many rows or items.
struct Case {
    what: &'static str,
    model: &'static str,
    rows: u64,
}

const CASES: [Case; 3] = [
    Case {
        what: "small network",
        model: "mlp",
        rows: 1,
    },
    Case {
        what: "ranker, 100 items",
        model: "ranker",
        rows: 100,
    },
    Case {
        what: "ranker, 1,000 items",
        model: "ranker",
        rows: 1000,
    },
];

/// Measures it.
pub async fn measure(args: &Args, table: &mut Table) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let ranker = predict::train(args, &folder).await?;
    let models = Models::write(&folder.path().join("peers"), &args.cache, &ranker, CORE).await?;
    let mut options = predict::options(&folder, args)?;
    options.core = Some(CORE);
    let host = Host::start(options).await?;
    register(&host, "mlp", std::fs::read(models.file("mlp"))?).await?;
    let ours = host.api.base().trim_start_matches("http://").to_owned();
    let fast_api = models.fast_api().await?;
    let ml_server = models.ml_server().await?;
    for case in &CASES {
        let body = body(&host, case).await?;
        let file = std::fs::read(models.file(case.model))?;
        let bare = 1e6
            / Peer::install(&args.cache, &file, CORE)
                .await?
                .bare(case.rows)
                .await?;
        for rival in [Some(&fast_api), ml_server.as_ref()].into_iter().flatten() {
            until(rival.name, START, async || {
                let once = load(case, &rival.address, &body, 1);
                Ok(once.run_times(1).await.ok().map(drop))
            })
            .await?;
        }
        for connections in CONNECTIONS {
            let ask = async |address: &str| {
                let load = load(case, address, &body, connections);
                load.run_for(WARM_UP).await?;
                load.run_for(TIME).await
            };
            let tidegate = ask(&ours).await.context("Tidegate")?;
            let other = ask(&fast_api.address).await;
            let what = format!("{}, {connections} connections", case.what);
            beside_fast_api(table, &what, tidegate, other);
            if let Some(rival) = &ml_server {
                let said = match ask(&rival.address).await {
                    Ok(other) => other.say(),
                    Err(error) => format!("fails: {error:#}"),
                };
                table.plain(&what, tidegate.say(), format!("{} {said}", rival.name));
            }
            if connections == 16 {
                let bare = (bare, format!("ONNX Runtime alone {} a second", whole(bare)));
                let ours = (tidegate.rate, tidegate.say());
                table.beside(&what, ours, bare, OF_THE_BARE_RUNTIME);
            }
        }
    }
    if let Some(rival) = &ml_server {
        memory(&host, rival, table)?;
    }
    drop((fast_api, ml_server));
    rankings(args, &host, &ranker, table).await
}

/// `/predict`, for which FastAPI has its features in memory.
async fn rankings(args: &Args, host: &Host, ranker: &[u8], table: &mut Table) -> Result<()> {
    let peer = Peer::install(&args.cache, ranker, CORE).await?;
    let (port, ours) = (free_port()?, host.api.base().trim_start_matches("http://"));
    let _serving = peer.serve(port).await?;
    for items in [100, 1000] {
        for connections in CONNECTIONS {
            let tidegate = predict::ask(ours, items, connections).await.context("Tidegate")?;
            let other = predict::ask(&format!("127.0.0.1:{port}"), items, connections).await;
            let what = format!("/predict, {items} items, {connections} connections");
            beside_fast_api(table, &what, tidegate, other);
        }
    }
    Ok(())
}

/// A peer that does not stand so many connections is told of as such.
fn beside_fast_api(table: &mut Table, what: &str, ours: Answered, other: Result<Answered>) {
    let other = match other {
        Ok(other) => other,
        Err(error) => return table.plain(what, ours.say(), format!("FastAPI fails: {error:#}")),
    };
    let theirs = (other.rate, format!("FastAPI {}", other.say()));
    table.beside(what, (ours.rate, ours.say()), theirs, TIMES_FAST_API);
    let of = |answered: Answered| (1.0 / answered.p99, duration(answered.p99));
    table.beside(&format!("{what}, p99"), of(ours), of(other), TIMES_ITS_P99);
}

fn memory(host: &Host, rival: &Rival, table: &mut Table) -> Result<()> {
    let said = |bytes: f64| format!("{} MB", whole(bytes / 1e6));
    let (ours, theirs) = (
        stage::resident_of_all(host.pid())?,
        stage::resident_of_all(rival.pid()?)?,
    );
    let theirs = (1.0 / theirs, format!("{} {}", rival.name, said(theirs)));
    let what = "resident memory after that, host and worker";
    table.beside(what, (1.0 / ours, said(ours)), theirs, TIMES_ML_SERVERS_MEMORY);
    Ok(())
}

/// Registers a file, which becomes the champion as there is none.
pub async fn register(host: &Host, name: &str, file: Vec<u8>) -> Result<()> {
    let key = format!("{name}/bench.onnx");
    host.bucket("models").put(&key, file).await?;
    let offered = json!({ "name": name, "bucket": "models", "key": key });
    host.api.post("/api/v1/models", &offered).await.map(drop)
}

fn load(case: &Case, address: &str, body: &Bytes, connections: usize) -> Load {
    Load {
        address: address.to_owned(),
        path: format!("/v2/models/{}/infer", case.model),
        bodies: vec![body.clone()],
        connections,
    }
}

/// What the model takes, as the host tells it, with so many rows; of the ranker it is one user, and items.
async fn body(host: &Host, case: &Case) -> Result<Bytes> {
    let told = host.api.get(&format!("/v2/models/{}", case.model)).await?;
    let inputs = told["inputs"].as_array().context("the model tells no inputs")?;
    let made = |input: &Value| {
        let of_user = input["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("user"));
        let rows = if of_user { 1 } else { case.rows };
        let width = input["shape"][1].as_u64();
        let count = rows * width.unwrap_or(1);
        let data: Vec<Value> = match input["datatype"].as_str() {
            Some("INT64") => (1..=count).map(Value::from).collect(),
            _ => (0..count).map(|at| json!((at % 97) as f64 / 97.0)).collect(),
        };
        let shape: Vec<u64> = [rows].into_iter().chain(width).collect();
        json!({ "name": input["name"], "datatype": input["datatype"], "shape": shape, "data": data })
    };
    let inputs: Vec<Value> = inputs.iter().map(made).collect();
    Ok(Bytes::from(json!({ "inputs": inputs }).to_string()))
}
