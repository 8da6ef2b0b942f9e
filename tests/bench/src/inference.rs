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
    /// Whether nearly all the work is the model's, so that the bare runtime is what it is measured by.
    dominates: bool,
}

const fn case(what: &'static str, model: &'static str, rows: u64) -> Case {
    Case {
        what,
        model,
        rows,
        dominates: false,
    }
}

const CASES: [Case; 4] = [
    case("small network", "mlp", 1),
    case("ranker, 100 items", "ranker", 100),
    case("ranker, 1,000 items", "ranker", 1000),
    Case {
        dominates: true,
        ..case("large network, 32 rows", "deep", 32)
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
    for network in ["mlp", "deep"] {
        register(&host, network, std::fs::read(models.file(network))?).await?;
    }
    let ours = host.api.base().trim_start_matches("http://").to_owned();
    let fast_api = models.fast_api().await?;
    let ml_server = models.ml_server().await?;
    for case in &CASES {
        let asked = Asked::of(&host, case).await?;
        let file = std::fs::read(models.file(case.model))?;
        let bare = Peer::install(&args.cache, &file, CORE).await?;
        let bare = 1e6 / bare.bare(case.rows).await?;
        for rival in [Some(&fast_api), ml_server.as_ref()].into_iter().flatten() {
            until(rival.name, START, async || {
                let once = asked.json(&rival.address, 1);
                Ok(once.run_times(1).await.ok().map(drop))
            })
            .await?;
        }
        for connections in CONNECTIONS {
            let what = format!("{}, {connections} connections", case.what);
            let tidegate = answered(asked.json(&ours, connections))
                .await
                .context("Tidegate")?;
            let other = answered(asked.json(&fast_api.address, connections)).await;
            beside_fast_api(table, &what, tidegate, other);
            if let Some(rival) = &ml_server {
                let said = match answered(asked.json(&rival.address, connections)).await {
                    Ok(other) => other.say(),
                    Err(error) => format!("fails: {error:#}"),
                };
                table.plain(&what, tidegate.say(), format!("{} {said}", rival.name));
            }
            let binary = answered(asked.binary(&ours, connections))
                .await
                .context("Tidegate")?;
            if connections == 16 {
                beside_bare(table, case, &what, tidegate, bare);
                beside_bare(table, case, &format!("{what}, as bytes"), binary, bare);
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

/// The runtime alone is the limit where the model is nearly all the work, and a measure of the rest elsewhere.
fn beside_bare(table: &mut Table, case: &Case, what: &str, ours: Answered, bare: f64) {
    let said = format!("ONNX Runtime alone {} a second", whole(bare));
    match case.dominates {
        true => table.beside(what, (ours.rate, ours.say()), (bare, said), OF_THE_BARE_RUNTIME),
        false => table.plain(what, ours.say(), said),
    }
}

async fn answered(load: Load) -> Result<Answered> {
    load.run_for(WARM_UP).await?;
    load.run_for(TIME).await
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

/// A request, in JSON and with its tensors as bytes behind it (Triton's binary tensor extension).
struct Asked {
    path: String,
    json: Bytes,
    binary: Bytes,
    /// How much of `binary` is JSON.
    head: usize,
}

impl Asked {
    /// What the model takes, as the host tells it, with so many rows; of the ranker it is one user, and items.
    async fn of(host: &Host, case: &Case) -> Result<Self> {
        let path = format!("/v2/models/{}", case.model);
        let told = host.api.get(&path).await?;
        let inputs = told["inputs"].as_array().context("the model tells no inputs")?;
        let (mut texts, mut heads, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for input in inputs {
            let of_user = input["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("user"));
            let rows = if of_user { 1 } else { case.rows };
            let width = input["shape"][1].as_u64();
            let count = rows * width.unwrap_or(1);
            let (data, bytes) = match input["datatype"].as_str() {
                Some("INT64") => elements((1..=count).map(u64::cast_signed), |value: i64| {
                    value.to_le_bytes().to_vec()
                }),
                _ => elements((0..count).map(|at| (at % 97) as f64 / 97.0), |value| {
                    (value as f32).to_le_bytes().to_vec()
                }),
            };
            let shape: Vec<u64> = [rows].into_iter().chain(width).collect();
            let (name, shape, datatype) = (&input["name"], json!(shape), &input["datatype"]);
            // Written by hand, as the protocol's order of fields is not that of a map.
            let head = format!(r#""name":{name},"shape":{shape},"datatype":{datatype}"#);
            texts.push(format!(r#"{{{head},"data":{data}}}"#));
            let size = bytes.len();
            heads.push(format!(
                r#"{{{head},"parameters":{{"binary_data_size":{size}}}}}"#
            ));
            raw.extend(bytes);
        }
        let whole = |inputs: &[String], rest: &str| format!(r#"{{{rest}"inputs":[{}]}}"#, inputs.join(","));
        let head = whole(&heads, r#""parameters":{"binary_data_output":true},"#);
        Ok(Self {
            path: format!("{path}/infer"),
            json: whole(&texts, "").into(),
            head: head.len(),
            binary: [head.as_bytes(), &raw].concat().into(),
        })
    }

    fn json(&self, address: &str, connections: usize) -> Load {
        Load {
            address: address.to_owned(),
            path: self.path.clone(),
            headers: Vec::new(),
            bodies: vec![self.json.clone()],
            connections,
        }
    }

    fn binary(&self, address: &str, connections: usize) -> Load {
        Load {
            headers: vec![("inference-header-content-length", self.head.to_string())],
            bodies: vec![self.binary.clone()],
            ..self.json(address, connections)
        }
    }
}

/// Numbers in JSON, and as bytes.
fn elements<T: Into<Value> + Copy>(
    values: impl Iterator<Item = T>,
    bytes: impl Fn(T) -> Vec<u8>,
) -> (Value, Vec<u8>) {
    let values: Vec<T> = values.collect();
    let raw = values.iter().copied().flat_map(bytes).collect();
    (values.into_iter().map(Into::into).collect(), raw)
}
