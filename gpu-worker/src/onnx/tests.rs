//! The exported graph computes what the trained model does. Needs ONNX Runtime's library; says so where it is absent.

use burn::backend::{Autodiff, NdArray};
use bytes::Bytes;

use crate::inference::budget::Budget;
use crate::inference::model::{Limits, Model, Opened};
use crate::inference::proto::ModelInferRequest;
use crate::inference::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::inference::provider::Execution;
use crate::inference::runtime;
use crate::train::rng::Rng;
use crate::train::scaling;
use crate::train::testing::{MemorySession, features};
use crate::train::two_tower::tests::{config, manifest, set};
use crate::train::two_tower::trainer::Encoded;
use crate::train::two_tower::{dataset, ranker};
use crate::train::{epochs, mlp, tabular, trees};

/// A model of a few steps, as a file, with the trainer's own scores of `pairs` random rows.
struct Case {
    file: Vec<u8>,
    /// Of users and of items.
    ids: [Vec<i64>; 2],
    raw: [Vec<f32>; 2],
    expected: Vec<f32>,
}

fn case(pairs: usize) -> Case {
    let config = config();
    let set = set(&config);
    let mut trainer = set
        .trainer::<Autodiff<NdArray<f32>>>(&config, Default::default())
        .unwrap();
    trainer.run(&set, &MemorySession::default()).unwrap();
    let mut rng = Rng::derive(&[99]);
    // Ids from -10 to 49: some known, some not.
    let mut ids = || -> Vec<i64> { (0..pairs).map(|_| rng.below(60) as i64 - 10).collect() };
    let ids = [ids(), ids()];
    let raw = [2, 1].map(|width| {
        (0..pairs * width)
            .map(|_| rng.normal() * 4.0 + 0.5)
            .collect::<Vec<f32>>()
    });
    let (mut user, mut item) = (raw[0].clone(), raw[1].clone());
    scaling::normalise(&mut user, &manifest().normalisation.user);
    scaling::normalise(&mut item, &manifest().normalisation.item);
    let split = dataset::Split {
        user_id: ids[0].clone().into(),
        item_id: ids[1].clone().into(),
        label: vec![0.0; pairs].into(),
        user: user.into(),
        item: item.into(),
    };
    let logits = trainer.logits(&Encoded::new(split, &set.users, &set.items).unwrap());
    let expected = logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    Case {
        file: ranker(&config, &set, &trainer).to_onnx(),
        ids,
        raw,
        expected,
    }
}

fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Bytes {
    values.iter().flat_map(|&value| of(value)).collect()
}

/// A request of `users` user rows and all items.
fn request(case: &Case, users: usize) -> ModelInferRequest {
    let items = case.ids[1].len();
    let tensor = |name: &str, datatype: &str, shape: &[usize]| InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.iter().map(|&size| size as i64).collect(),
        ..Default::default()
    };
    ModelInferRequest {
        inputs: vec![
            tensor("user_id", "INT64", &[users]),
            tensor("user_features", "FP32", &[users, 2]),
            tensor("item_id", "INT64", &[items]),
            tensor("item_features", "FP32", &[items, 1]),
        ],
        raw_input_contents: vec![
            bytes(&case.ids[0][..users], i64::to_le_bytes),
            bytes(&case.raw[0][..users * 2], f32::to_le_bytes),
            bytes(&case.ids[1], i64::to_le_bytes),
            bytes(&case.raw[1], f32::to_le_bytes),
        ],
        ..Default::default()
    }
}

/// None, with a word about it, where the library is absent.
fn load(case: &Case) -> Option<Model> {
    load_file(&case.file)
}

fn load_file(file: &[u8]) -> Option<Model> {
    if let Err(reason) = runtime::environment() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let limits = Limits::default();
    let opened = Opened::open(
        "ranker",
        "1",
        Bytes::copy_from_slice(file),
        limits.execution.clone(),
    )
    .unwrap();
    let share = Budget::new(limits.memory).try_take(opened.takes).unwrap();
    Some(Model::new(opened, share, &limits, None))
}

async fn scores(model: &Model, request: ModelInferRequest) -> Vec<f32> {
    let response = model.infer(request).await.unwrap();
    assert_eq!(response.outputs[0].name, "score");
    response.raw_output_contents[0]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

fn assert_close(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    let worst = found
        .iter()
        .zip(wanted)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst < 1e-4, "{worst}");
}

#[tokio::test]
async fn pairs_score_as_in_training() {
    let case = case(97);
    let Some(model) = load(&case) else { return };
    assert_close(&scores(&model, request(&case, 97)).await, &case.expected);
    assert_eq!(
        model.signature().properties["user_features"],
        r#"["rate","count"]"#
    );
}

#[tokio::test]
async fn one_user_is_scored_against_every_item() {
    let mut case = case(60);
    let Some(model) = load(&case) else { return };
    let broadcast = scores(&model, request(&case, 1)).await;
    let (id, features) = (case.ids[0][0], [case.raw[0][0], case.raw[0][1]]);
    case.ids[0].fill(id);
    case.raw[0] = features.repeat(60);
    assert_close(&broadcast, &scores(&model, request(&case, 60)).await);
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_with_found_and_allowed() {
    let case = case(5);
    let Some(model) = load(&case) else { return };
    let refused = async |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = request(&case, 1);
        change(&mut request);
        let status = model.infer(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        status.message().to_owned()
    };
    let said = refused(&|r| r.inputs[0].name = "user".to_owned()).await;
    assert!(
        said.contains("found inputs `user`, `user_features`") && said.contains("allowed are `user_id`"),
        "{said}"
    );
    let said = refused(&|r| r.inputs[2].datatype = "FP32".to_owned()).await;
    assert!(
        said.contains("input `item_id` has datatype `FP32`, allowed is `INT64`"),
        "{said}"
    );
    let said = refused(&|r| r.inputs[3].shape = vec![5, 2]).await;
    assert!(
        said.contains("input `item_features` has shape [5, 2], allowed is [N, 1]"),
        "{said}"
    );
    let said = refused(&|r| r.inputs[0].shape = vec![-1]).await;
    assert!(said.contains("has shape [-1]"), "{said}");
    let said = refused(&|r| r.inputs[2].shape = vec![i64::MAX]).await;
    assert!(said.contains("input `item_id`"), "{said}");
    let said = refused(&|r| r.raw_input_contents[2] = Bytes::from_static(&[0; 12])).await;
    assert!(said.contains("has 12 bytes, allowed are 40"), "{said}");
    let said = refused(&|r| {
        r.inputs[2].shape = vec![4];
        r.raw_input_contents[2] = Bytes::from_static(&[0; 32]);
    });
    let said = said.await;
    assert!(
        said.contains("dimension `N` is 4 in one input and 5 in another"),
        "{said}"
    );
    let said = refused(&|r| {
        r.outputs.push(InferRequestedOutputTensor {
            name: "logit".into(),
            ..Default::default()
        })
    })
    .await;
    assert!(
        said.contains("unknown output `logit`, allowed are `score`"),
        "{said}"
    );
    let said = refused(&|r| drop(r.raw_input_contents.pop())).await;
    assert!(said.contains("found 3 raw_input_contents for 4 inputs"), "{said}");
}

/// Rows that no training saw, as a model on tabular data is asked for them, in the order of `x`, `y`, `noise`.
fn rows(count: usize) -> (Vec<[f32; 3]>, ModelInferRequest) {
    let (rows, _) = features(count, 5);
    let input = InferInputTensor {
        name: "features".to_owned(),
        datatype: "FP32".to_owned(),
        shape: vec![count as i64, 3],
        ..Default::default()
    };
    let request = ModelInferRequest {
        inputs: vec![input],
        raw_input_contents: vec![bytes(&rows.concat(), f32::to_le_bytes)],
        ..Default::default()
    };
    (rows, request)
}

/// The splits that a configuration names, made up.
fn tables(source: &tabular::Source) -> [tabular::Rows; 2] {
    source.read(&MemorySession::with_tables([600, 200])).unwrap()
}

#[tokio::test]
async fn trees_score_as_in_training() {
    for kind in [trees::BOOSTING, trees::FOREST] {
        let config = serde_json::json!({
            "model": "t", "dataset": {"bucket": "data", "prefix": "d"}, "output": {"bucket": "m", "prefix": "t"},
            "features": ["x", "y", "noise"], "trees": 25,
        });
        let config = trees::config::TreesConfig::parse(kind, &config).unwrap();
        let [train, validation] = tables(&config.source);
        let mut ensemble = trees::ensemble::Ensemble::new(config.clone(), train, validation);
        let plan = epochs::Plan {
            max_epochs: config.trees,
            patience: config.trees,
            batch_size: usize::MAX,
            seed: config.seed,
            pace: epochs::pace(),
            unit: "tree",
        };
        epochs::train(
            &mut ensemble,
            &mut epochs::State::default(),
            &plan,
            &MemorySession::default(),
        )
        .unwrap();
        let Some(model) = load_file(&ensemble.exported().to_onnx()) else {
            return;
        };
        let (rows, request) = rows(500);
        let expected: Vec<f32> = rows.iter().map(|row| ensemble.score(row)).collect();
        assert_close(&scores(&model, request).await, &expected);
        assert_eq!(model.signature().properties["features"], r#"["x","y","noise"]"#);
    }
}

#[tokio::test]
async fn a_network_on_tabular_data_scores_as_in_training() {
    let config = serde_json::json!({
        "model": "m", "dataset": {"bucket": "data", "prefix": "d"}, "output": {"bucket": "m", "prefix": "t"},
        "features": ["x", "y", "noise"], "hidden": [16, 8], "max_epochs": 3, "batch_size": 64,
    });
    let config = mlp::config::MlpConfig::parse(&config).unwrap();
    let [train, mut validation] = tables(&config.source);
    let (rows, request) = rows(200);
    validation.features = rows.concat().into();
    let mut trainer = mlp::trainer::Trainer::<Autodiff<NdArray<f32>>>::new(
        config.clone(),
        train,
        validation,
        Default::default(),
    )
    .unwrap();
    let plan = config.plan(epochs::pace());
    epochs::train(
        &mut trainer,
        &mut epochs::State::default(),
        &plan,
        &MemorySession::default(),
    )
    .unwrap();
    let Some(model) = load_file(&trainer.exported().to_onnx()) else {
        return;
    };
    let logits = epochs::Learner::validation_logits(&mut trainer);
    let expected: Vec<f32> = logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
    assert_close(&scores(&model, request).await, &expected);
}

#[test]
fn a_file_that_is_no_model_is_refused() {
    if runtime::environment().is_ok() {
        let reason =
            Opened::open("ranker", "1", Bytes::from_static(b"not onnx"), Execution::cpu(1)).unwrap_err();
        assert!(reason.contains("is not a usable ONNX file"), "{reason}");
    }
}
