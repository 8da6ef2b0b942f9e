//! The real binary against a host of the test's own: leases, checkpoints, SIGKILL, lost leases, inference.

#![allow(clippy::unwrap_used, clippy::panic)]

mod command;
mod dataset;
mod fake_host;

use std::time::Duration;

use fake_host::{FakeHost, Worker};
use serde_json::json;
use tidegate_worker::inference::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tidegate_worker::inference::proto::model_infer_request::InferInputTensor;
use tidegate_worker::inference::proto::model_repository_parameter::ParameterChoice;
use tidegate_worker::inference::proto::*;
use tidegate_worker::inference::runtime;
use tonic::Code;
use tonic::transport::Channel;

/// So many epochs that there are more checkpoints than kills wait for, however fast the machine is.
fn config() -> serde_json::Value {
    json!({
        "model": "ranker",
        "dataset": {"bucket": "data", "prefix": "features/d/"},
        "output": {"bucket": "models", "prefix": "ranker/m/"},
        "embedding_dim": 16, "towers": [32, 16], "batch_size": 64, "max_epochs": 20, "patience": 20, "device": "cpu",
    })
}

async fn host() -> FakeHost {
    let host = FakeHost::start().await;
    for (name, content) in dataset::training_set() {
        host.put_object(&format!("data/features/d/{name}"), content);
    }
    host
}

/// Outputs without what may differ between runs.
fn comparable(mut outputs: serde_json::Value) -> serde_json::Value {
    outputs.as_object_mut().unwrap().remove("seconds");
    outputs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_training_ends_in_the_same_model() {
    let host = host().await;
    let worker = Worker::spawn(&host);
    host.submit("whole", "train.two-tower", config());
    let whole = comparable(host.outputs("whole").await);
    drop(worker);
    assert!(host.seen_progress("whole"), "no heartbeat carried progress");
    let model = host.object("models/ranker/m/model.onnx").unwrap();

    host.submit("broken", "train.two-tower", config());
    for kill in 1..=5 {
        let worker = Worker::spawn(&host);
        host.checkpoints("broken", 3 * kill).await;
        worker.kill();
        host.expire_leases();
    }
    assert!(
        host.finished("broken").is_none(),
        "the job ended before it was killed five times"
    );
    let _worker = Worker::spawn(&host);
    let broken = comparable(host.outputs("broken").await);
    assert_eq!(whole, broken);
    assert!(model == host.object("models/ranker/m/model.onnx").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_job_fails_for_good_with_its_reason_and_the_worker_goes_on() {
    let host = host().await;
    let _worker = Worker::spawn(&host);
    host.submit("kind", "train.forest", json!({}));
    assert!(
        host.failure("kind")
            .await
            .contains("unknown kind of job `train.forest`, allowed are `train.two-tower`, `train.mlp`")
    );
    host.submit("config", "train.two-tower", json!({"model": 7}));
    let reason = host.failure("config").await;
    assert!(
        reason.contains("`model`: found 7") && reason.contains("`dataset` is missing"),
        "{reason}"
    );
    let mut elsewhere = config();
    elsewhere["dataset"]["prefix"] = json!("features/none/");
    host.submit("missing", "train.two-tower", elsewhere);
    assert!(
        host.failure("missing")
            .await
            .contains("`data/features/none/dataset.json` does not exist")
    );
    host.put_object("data/features/d/validation.parquet", b"cut".to_vec());
    host.submit("cut", "train.two-tower", config());
    assert!(
        host.failure("cut")
            .await
            .contains("`validation.parquet` cannot be read")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_or_cancelled_drops_the_job() {
    let host = host().await;
    let _worker = Worker::spawn(&host);
    let mut long = config();
    long["max_epochs"] = json!(10_000);
    long["patience"] = json!(10_000);
    host.submit("lost", "train.two-tower", long.clone());
    host.checkpoints("lost", 1).await;
    host.withdraw("lost");
    host.submit("next", "train.two-tower", config());
    host.outputs("next").await;
    assert!(host.finished("lost").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_is_trained_on_without_being_held_in_memory() {
    const ROWS: usize = 800_000;
    let host = FakeHost::start().await;
    for (name, rows) in [("train", ROWS), ("validation", 1000)] {
        host.put_object(&format!("data/wide/{name}.parquet"), dataset::wide(rows));
    }
    let worker = Worker::spawn(&host);
    let features: Vec<String> = (0..dataset::WIDTH).map(|at| format!("f{at}")).collect();
    let config = json!({
        "model": "wide", "dataset": {"bucket": "data", "prefix": "wide/"}, "output": {"bucket": "models", "prefix": "wide/"},
        "features": features, "hidden": [8], "max_epochs": 1, "device": "cpu",
    });
    host.submit("wide", "train.mlp", config);
    let mut most = 0;
    while host.finished("wide").is_none() {
        most = most.max(worker.anonymous_memory());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let outputs = host.outputs("wide").await;
    assert!(
        outputs["metrics"]["validation"]["auc"].as_f64().unwrap() > 0.9,
        "{outputs}"
    );
    let split = (ROWS * dataset::WIDTH * 4) as u64;
    assert!(
        most > 0 && most < split,
        "{most} bytes of memory for a split of {split}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_with_its_parent_and_on_sigterm() {
    let host = host().await;
    let worker = Worker::spawn(&host);
    host.inference().await;
    worker.close_stdin_and_wait(Duration::from_secs(5));
    let worker = Worker::spawn(&host);
    host.inference().await;
    worker.terminate_and_wait(Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trained_model_is_loaded_and_asked() {
    if let Err(reason) = runtime::find() {
        eprintln!("skipped: {reason}");
        return;
    }
    let host = host().await;
    let _worker = Worker::spawn(&host);
    host.submit("job", "train.two-tower", config());
    host.outputs("job").await;
    let channel = Channel::from_shared(format!("http://{}", host.inference().await))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    assert_eq!(
        client.model_infer(question(3)).await.unwrap_err().code(),
        Code::NotFound
    );
    let missing = client
        .repository_model_load(load("models/none.onnx"))
        .await
        .unwrap_err();
    assert!(
        missing.message().contains("`models/none.onnx` does not exist"),
        "{missing}"
    );
    let mut other = load("models/ranker/m/model.onnx");
    other.parameters.insert("sha256".into(), text("ab"));
    let replaced = client.repository_model_load(other).await.unwrap_err();
    assert_eq!(replaced.code(), Code::FailedPrecondition);
    assert!(
        replaced
            .message()
            .contains("its version was registered with `ab`"),
        "{replaced}"
    );
    client
        .repository_model_load(load("models/ranker/m/model.onnx"))
        .await
        .unwrap();
    let answer = client.model_infer(question(3)).await.unwrap().into_inner();
    assert_eq!(
        (answer.model_name.as_str(), answer.model_version.as_str()),
        ("ranker", "1")
    );
    assert_eq!(answer.outputs[0].shape, [3]);
    assert_eq!(answer.raw_output_contents[0].len(), 12);
    let metadata = ModelMetadataRequest {
        name: "ranker".into(),
        version: "1".into(),
    };
    let metadata = client.model_metadata(metadata).await.unwrap().into_inner();
    assert_eq!(metadata.inputs[1].shape, [-1, 2]);
    let wrong = client.model_infer(question(0)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let unload = RepositoryModelUnloadRequest {
        model_name: "ranker".into(),
        ..Default::default()
    };
    client.repository_model_unload(unload).await.unwrap();
    assert_eq!(
        client.model_infer(question(3)).await.unwrap_err().code(),
        Code::NotFound
    );
}

/// Files enough that the worker is killed before it is through, however fast the machine is.
const FILES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_predicting_goes_on_with_the_file_it_was_at() {
    if let Err(reason) = runtime::find() {
        eprintln!("skipped: {reason}");
        return;
    }
    let host = host().await;
    host.put_object("models/linear.onnx", dataset::linear_model());
    for file in 0..FILES {
        let table = dataset::split(20 + file, file as u64);
        host.put_object(&format!("data/rows/part={}/{file:03}.parquet", file / 100), table);
    }
    let config = |output: &str| {
        json!({
            "model": "linear",
            "input": {"bucket": "data", "prefix": "rows/"},
            "output": {"bucket": "data", "prefix": output},
            "inputs": {"features": ["user.rate", "item.rate"]},
            "keep": ["item_id"],
            "batch_size": 7,
        })
    };
    let worker = Worker::spawn(&host);
    host.submit("whole", "predict.batch", config("whole/"));
    let whole = host.outputs("whole").await;
    drop(worker);
    let rows: usize = (0..FILES).map(|file| 20 + file).sum();
    assert_eq!(whole["files"], json!(FILES), "{whole}");
    assert_eq!(whole["rows"], json!(rows), "{whole}");
    assert_eq!(whole["model"]["version"], "1", "{whole}");

    host.submit("broken", "predict.batch", config("broken/"));
    for kill in 1..=3 {
        let worker = Worker::spawn(&host);
        host.checkpoints("broken", 10 * kill).await;
        worker.kill();
        host.expire_leases();
    }
    assert!(
        host.finished("broken").is_none(),
        "the job ended before it was killed three times"
    );
    let _worker = Worker::spawn(&host);
    let broken = host.outputs("broken").await;
    for told in ["files", "rows", "bytes", "model"] {
        assert_eq!(broken[told], whole[told], "{told}");
    }
    let (whole, broken) = (host.objects("data/whole/"), host.objects("data/broken/"));
    assert_eq!(whole.len(), FILES);
    assert!(whole == broken, "the files differ");
    assert_eq!(host.writes("data/broken/part=0/000.parquet"), 1);
}

fn text(text: &str) -> ModelRepositoryParameter {
    ModelRepositoryParameter {
        parameter_choice: Some(ParameterChoice::StringParam(text.into())),
    }
}

fn load(uri: &str) -> RepositoryModelLoadRequest {
    RepositoryModelLoadRequest {
        model_name: "ranker".into(),
        parameters: [("uri".into(), text(uri)), ("version".into(), text("1"))].into(),
        ..Default::default()
    }
}

/// One user and `items` items, by typed contents.
fn question(items: usize) -> ModelInferRequest {
    let ints = |name: &str, count: usize| InferInputTensor {
        name: name.into(),
        datatype: "INT64".into(),
        shape: vec![count as i64],
        contents: Some(InferTensorContents {
            int64_contents: (0..count as i64).collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let floats = |name: &str, rows: usize, width: usize| InferInputTensor {
        name: name.into(),
        datatype: "FP32".into(),
        shape: vec![rows as i64, width as i64],
        contents: Some(InferTensorContents {
            fp32_contents: vec![0.5; rows * width],
            ..Default::default()
        }),
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "ranker".into(),
        model_version: "1".into(),
        inputs: vec![
            ints("user_id", 1),
            floats("user_features", 1, 2),
            ints("item_id", items),
            floats("item_features", items, 1),
        ],
        ..Default::default()
    }
}
