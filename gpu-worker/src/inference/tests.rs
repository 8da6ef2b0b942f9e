//! Models that are run together, and that give way to others. Needs ONNX Runtime's library; says so where it is absent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::budget::{Budget, resident};
use super::model::{Limits, Model, Opened};
use super::padding::Fill;
use super::proto::model_infer_request::InferInputTensor;
use super::proto::{InferTensorContents, ModelInferRequest};
use super::provider::{Execution, Provider};
use super::queue::Batching;
use super::runtime;
use super::store::ModelStore;
use crate::onnx::graph::{Dim, GraphBuilder, int};
use crate::onnx::proto::DataType;

/// So long that a batch that is not full is never run.
const NEVER: Duration = Duration::from_secs(3600);
/// How long a request may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Numbers in the table, of which a request gets those that it names.
const TABLE: usize = 8;

/// A model that looks numbers up in a table of `numbers`: an index beyond it is an error of the one who asks.
fn table(numbers: usize) -> Bytes {
    let mut graph = GraphBuilder::default();
    let at = graph.input("at", DataType::Int64, &[Dim::Named("N")]);
    let values: Vec<f32> = (0..numbers).map(|number| number as f32).collect();
    let table = graph.floats("table", &[numbers], &values);
    let found = graph.apply("Gather", &[&table, &at], vec![int("axis", 0)]);
    let output: (&str, DataType, &[Dim]) = ("found", DataType::Float, &[Dim::Named("N")]);
    graph.finish("table", &found, output, &[]).into()
}

/// The same for rows of any length.
fn wide_table(numbers: usize) -> Bytes {
    let mut graph = GraphBuilder::default();
    let shape = [Dim::Named("N"), Dim::Named("L")];
    let at = graph.input("at", DataType::Int64, &shape);
    let values: Vec<f32> = (0..numbers).map(|number| number as f32).collect();
    let table = graph.floats("table", &[numbers], &values);
    let found = graph.apply("Gather", &[&table, &at], vec![int("axis", 0)]);
    let output: (&str, DataType, &[Dim]) = ("found", DataType::Float, &shape);
    graph.finish("table", &found, output, &[]).into()
}

/// None, with a word about it, where the library is absent.
fn opened(version: &str, file: Bytes) -> Option<Opened> {
    if let Err(reason) = runtime::environment() {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(Opened::open("table", version, file, Execution::cpu(1)).unwrap())
}

fn model(batching: Option<Batching>) -> Option<Arc<Model>> {
    let share = Budget::new(1 << 30).try_take(1).unwrap();
    let opened = opened("1", table(TABLE))?;
    Some(Arc::new(Model::new(opened, share, &Limits::default(), batching)))
}

fn asking(at: &[i64]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "at".into(),
        datatype: "INT64".into(),
        shape: vec![at.len() as i64],
        contents: Some(InferTensorContents {
            int64_contents: at.to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ModelInferRequest {
        inputs: vec![input],
        ..Default::default()
    }
}

async fn found(model: &Model, at: &[i64]) -> Result<Vec<f32>, tonic::Status> {
    let answered = tokio::time::timeout(LIMIT, model.infer(asking(at))).await;
    let answer = answered.expect("the request waits for others")?;
    assert_eq!(answer.outputs[0].shape, [at.len() as i64]);
    let chunks = answer.raw_output_contents[0].as_chunks::<4>().0;
    Ok(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}

#[tokio::test]
async fn requests_that_wait_are_run_together_and_each_gets_its_own_rows() {
    let batching = Batching {
        most: 6,
        delay: NEVER,
    };
    let Some(model) = model(Some(batching)) else {
        return;
    };
    let (one, two, three) = tokio::join!(
        found(&model, &[3]),
        found(&model, &[1, 2]),
        found(&model, &[7, 0, 5])
    );
    assert_eq!(one.unwrap(), [3.0]);
    assert_eq!(two.unwrap(), [1.0, 2.0]);
    assert_eq!(three.unwrap(), [7.0, 0.0, 5.0]);
    let told = model.statistics().told("table", "1");
    assert_eq!((told.execution_count, told.inference_count), (1, 6));
    assert_eq!(told.batch_stats[0].batch_size, 6);
    assert_eq!(told.inference_stats.unwrap().success.unwrap().count, 3);
}

#[tokio::test]
async fn requests_of_different_lengths_are_filled_up_to_be_run_together() {
    let Some(opened) = opened("1", wide_table(TABLE)) else {
        return;
    };
    let batching = Batching {
        most: 2,
        delay: NEVER,
    };
    let share = Budget::new(1 << 30).try_take(1).unwrap();
    let opened = opened.padded(&Fill::from([("at".to_owned(), 0)])).unwrap();
    let model = Model::new(opened, share, &Limits::default(), Some(batching));
    let ask = async |at: &[i64]| {
        let mut request = asking(at);
        request.inputs[0].shape.insert(0, 1);
        let answered = tokio::time::timeout(LIMIT, model.infer(request)).await;
        let answer = answered.expect("the request waits for others").unwrap();
        assert_eq!(answer.outputs[0].shape, [1, at.len() as i64]);
        answer.raw_output_contents[0].to_vec()
    };
    let (short, long) = tokio::join!(ask(&[5]), ask(&[1, 2, 7]));
    let floats = |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    assert_eq!((short, long), (floats(&[5.0]), floats(&[1.0, 2.0, 7.0])));
    let told = model.statistics().told("table", "1");
    assert_eq!((told.execution_count, told.inference_count), (1, 2));
}

#[tokio::test]
async fn an_error_in_a_batch_is_the_answer_to_who_caused_it_alone() {
    let batching = Batching {
        most: 5,
        delay: NEVER,
    };
    let Some(model) = model(Some(batching)) else {
        return;
    };
    let asked: [&[i64]; 5] = [&[0], &[1], &[99], &[3], &[4]];
    let answers = join_all(asked.map(|at| found(&model, at))).await;
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(numbers) => assert_eq!(numbers, [at as f32]),
            Err(status) => assert_eq!((at, status.code()), (2, tonic::Code::InvalidArgument), "{status}"),
        }
    }
    let told = model.statistics().told("table", "1").inference_stats.unwrap();
    assert_eq!((told.success.unwrap().count, told.fail.unwrap().count), (4, 1));
}

#[tokio::test]
async fn who_has_gone_is_not_run() {
    let batching = Batching {
        most: 3,
        delay: NEVER,
    };
    let Some(model) = model(Some(batching)) else {
        return;
    };
    let mut gone = Box::pin(found(&model, &[6]));
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    let asked: [&[i64]; 3] = [&[0], &[1], &[2]];
    for answer in join_all(asked.map(|at| found(&model, at))).await {
        answer.unwrap();
    }
    let told = model.statistics().told("table", "1");
    assert_eq!((told.execution_count, told.inference_count), (1, 3));
}

#[tokio::test]
async fn a_request_that_fills_a_batch_alone_or_need_not_wait_is_run_at_once() {
    let full = Batching {
        most: 2,
        delay: NEVER,
    };
    let hasty = Batching {
        most: 32,
        delay: Duration::ZERO,
    };
    for batching in [Some(full), Some(hasty), None] {
        let Some(model) = model(batching) else { return };
        assert_eq!(found(&model, &[4, 5]).await.unwrap(), [4.0, 5.0]);
    }
}

#[tokio::test]
async fn models_beyond_the_memory_unload_the_one_that_was_not_used_for_longest() {
    let limits = Limits {
        memory: 10 << 20,
        ..Limits::default()
    };
    let store = ModelStore::new(limits);
    for version in ["1", "2", "3"] {
        let Some(mut opened) = opened(version, table(TABLE)) else {
            return;
        };
        opened.takes = 4 << 20;
        store.add(opened, None, None).await.unwrap();
        store.get("table", "1").unwrap();
    }
    assert_eq!(store.versions("table"), ["1", "3"]);
    let refused = store.room(11 << 20).await.unwrap_err();
    assert!(
        refused.contains("allowed are 10485760 for all models"),
        "{refused}"
    );
}

/// A leak of what was loaded would be 60 times 8 MiB, and as much again for the files.
#[tokio::test]
async fn loading_and_unloading_leaves_nothing_behind() {
    const NUMBERS: usize = 2 << 20;
    const SLACK: u64 = 256 << 20;
    let file = table(NUMBERS);
    let store = ModelStore::new(Limits::default());
    let mut first = 0;
    for round in 0..60 {
        let Some(opened) = opened("1", file.clone()) else {
            return;
        };
        assert!(opened.takes >= 2 * 4 * NUMBERS as u64, "{}", opened.takes);
        store.add(opened, None, None).await.unwrap();
        let model = store.get("table", "1").unwrap();
        assert_eq!(found(&model, &[9]).await.unwrap(), [9.0]);
        drop(model);
        store.remove("table", "1").unwrap();
        if round == 4 {
            first = resident();
        }
    }
    let grown = resident().saturating_sub(first);
    assert!(grown < SLACK, "{grown} bytes more than after the first rounds");
}

#[tokio::test]
async fn an_instance_that_is_busy_holds_up_no_other_and_there_are_no_more_than_the_group_has() {
    let batching = Batching {
        most: 2,
        delay: NEVER,
    };
    for batching in [None, Some(batching)] {
        let Some(opened) = opened("1", table(TABLE)) else {
            return;
        };
        let store = ModelStore::new(Limits::default());
        store.add(opened, Some(2), batching).await.unwrap();
        let model = store.get("table", "1").unwrap();
        let busy = model.sessions().try_take().unwrap();
        // The second instance answers two requests, or a batch of two, while the first one computes.
        let (one, other) = tokio::join!(found(&model, &[3]), found(&model, &[5]));
        assert_eq!((one.unwrap(), other.unwrap()), (vec![3.0], vec![5.0]));
        let told = model.statistics().told("table", "1");
        assert_eq!(told.execution_count, if batching.is_some() { 1 } else { 2 });
        let second = model.sessions().take().await.unwrap();
        assert!(futures::poll!(Box::pin(model.sessions().take())).is_pending());
        assert!(model.sessions().try_take().is_none());
        drop((busy, second));
    }
}

#[tokio::test]
async fn memory_is_counted_for_every_instance() {
    const TAKES: u64 = 4 << 20;
    let store = ModelStore::new(Limits {
        memory: 10 << 20,
        ..Limits::default()
    });
    for (version, instances, bytes) in [
        ("1", Some(2), 2 * TAKES),
        ("2", Some(1), TAKES),
        ("3", None, TAKES),
    ] {
        let Some(mut opened) = opened(version, table(TABLE)) else {
            return;
        };
        opened.takes = TAKES;
        assert_eq!(store.add(opened, instances, None).await, Ok(bytes));
    }
    assert_eq!(store.versions("table"), ["2", "3"], "both instances gave way");
    let Some(mut opened) = opened("4", table(TABLE)) else {
        return;
    };
    opened.takes = TAKES;
    let refused = store.add(opened, Some(3), None).await.unwrap_err();
    assert_eq!(
        refused,
        "with 3 instances takes 12582912 bytes of memory, allowed are 10485760 for all models"
    );
}

/// The library that the set-up makes has no providers but that of the CPU; one that has more leaves nothing to show here.
#[tokio::test]
async fn a_provider_that_the_library_lacks_is_told_and_the_cpu_takes_its_place_where_it_may() {
    let with = |providers: &[Provider]| {
        let execution = Execution {
            threads: 1,
            providers: providers.to_vec(),
        };
        Opened::open("table", "1", table(TABLE), execution)
    };
    let alone = match runtime::environment().map(|_| with(&[Provider::Tensorrt])) {
        Ok(Err(alone)) if alone.contains("is not in the ONNX Runtime library") => alone,
        _ => return eprintln!("skipped: no library, or one with TensorRT"),
    };
    assert_eq!(
        alone,
        "cannot be computed: execution provider `tensorrt` is not in the ONNX Runtime library at hand, which has `cpu`"
    );
    assert!(with(&[Provider::Tensorrt, Provider::Cuda, Provider::Cpu]).is_ok());
}
