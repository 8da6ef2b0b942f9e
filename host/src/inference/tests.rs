//! Inference over a worker of the test's own, which knows a model only once it was told to load it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tidegate_runtime::inference::Datatype;
use tidegate_runtime::store::memory::Memory;
use tidegate_runtime::store::{Condition, StateWrite, Unit};
use tokio::sync::watch;
use tonic::{Request, Response};

use super::open_inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use super::open_inference::model_infer_response::InferOutputTensor;
use super::open_inference::model_repository_parameter::ParameterChoice;
use super::open_inference::*;
use super::*;

/// Answers every inference with the bytes of its first input, under the name `echo`.
#[derive(Default)]
struct Echo {
    loaded: Mutex<BTreeMap<(String, String), String>>,
    loads: AtomicUsize,
    /// While it is true, nobody is answered.
    held: watch::Sender<bool>,
}

#[async_trait]
impl GrpcInferenceService for Arc<Echo> {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        Err(Status::unimplemented("not of use here"))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Err(Status::unimplemented("not of use here"))
    }

    async fn model_metadata(
        &self,
        _: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        Err(Status::unimplemented("not of use here"))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let request = request.into_inner();
        let name = (request.model_name.clone(), request.model_version.clone());
        if !self.loaded.lock().unwrap().contains_key(&name) {
            return Err(Status::not_found("not loaded"));
        }
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        let (Some(input), Some(data)) = (request.inputs.first(), request.raw_input_contents.first()) else {
            return Err(Status::invalid_argument("input `x` is missing"));
        };
        let output = InferOutputTensor {
            name: "echo".into(),
            datatype: input.datatype.clone(),
            shape: input.shape.clone(),
            ..Default::default()
        };
        let answer = ModelInferResponse {
            outputs: vec![output],
            raw_output_contents: vec![data.clone()],
            ..Default::default()
        };
        Ok(Response::new(answer))
    }

    async fn model_statistics(
        &self,
        _: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        Err(Status::unimplemented("not of use here"))
    }

    async fn repository_index(
        &self,
        _: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        Err(Status::unimplemented("not of use here"))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let request = request.into_inner();
        let text = |name: &str| match request.parameters[name].parameter_choice.clone() {
            Some(ParameterChoice::StringParam(text)) => text,
            other => panic!("parameter `{name}` is {other:?}"),
        };
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.loaded
            .lock()
            .unwrap()
            .insert((request.model_name.clone(), text("version")), text("uri"));
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        _: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        Err(Status::unimplemented("not of use here"))
    }
}

async fn serve(echo: Arc<Echo>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(GrpcInferenceServiceServer::new(echo.clone()));
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn put(store: &dyn Store, key: &str, value: serde_json::Value) {
    let write = StateWrite {
        table: "models".into(),
        key: key.into(),
        value: Some(Bytes::from(value.to_string())),
        condition: Condition::None,
    };
    store
        .commit(Unit {
            state: vec![write],
            ..Unit::default()
        })
        .await
        .unwrap();
}

/// A registry in which the champion of `ranker` is its version 3.
async fn registry() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    add_version(&*store, 3).await;
    put(
        &*store,
        "ranker/aliases/champion",
        serde_json::json!({ "version": 3 }),
    )
    .await;
    store
}

async fn add_version(store: &dyn Store, number: u64) {
    let version = serde_json::json!({
        "model": "ranker", "version": number, "created": 1, "metrics": {}, "parameters": {}, "code": {},
        "artifact": { "bucket": "models", "key": "ranker/abc/model.onnx", "sha256": "", "size": 1 },
        "dataset": { "id": "d", "bucket": "data", "prefix": "p/", "digest": "" },
        "signature": { "user_features": [], "item_features": [] },
        "decision": "promote", "reason": "", "origin": { "event": "", "trace": "", "job": "" },
    });
    put(store, &format!("ranker/versions/{number:012}"), version).await;
}

fn pool(store: Arc<dyn Store>, wait: u64) -> Arc<WorkerPool> {
    pool_with(store, wait, None)
}

fn pool_with(store: Arc<dyn Store>, wait: u64, trust: Option<Trust>) -> Arc<WorkerPool> {
    let patience = Patience {
        infer: Duration::from_secs(5),
        worker: Duration::from_millis(wait),
    };
    WorkerPool::new(
        store,
        patience,
        BTreeMap::new(),
        trust,
        Arc::new(HostMetrics::default()),
        Spans::default(),
    )
}

fn tensor() -> Tensor {
    Tensor {
        name: "x".into(),
        datatype: Datatype::Fp32,
        shape: vec![2],
        data: Bytes::from_static(&[0, 0, 128, 63, 0, 0, 0, 64]),
    }
}

#[tokio::test]
async fn a_champion_is_resolved_loaded_once_and_answers() {
    let echo = Arc::new(Echo::default());
    let pool = pool(registry().await, 2000);
    pool.join("worker", &serve(echo.clone()).await, false).unwrap();
    let requests = (0..16).map(|_| pool.infer("ranker", None, vec![tensor()]));
    for answer in futures::future::join_all(requests).await {
        let answer = answer.unwrap();
        assert_eq!(answer.model_version, "3");
        assert_eq!(answer.outputs[0].name, "echo");
        assert_eq!(answer.outputs[0].data, tensor().data);
    }
    assert_eq!(echo.loads.load(Ordering::Relaxed), 1);
    let loaded = echo.loaded.lock().unwrap().clone();
    assert_eq!(
        loaded[&("ranker".to_owned(), "3".to_owned())],
        "models/ranker/abc/model.onnx"
    );
}

#[tokio::test]
async fn what_is_not_registered_is_not_found() {
    let pool = pool(registry().await, 10);
    for reference in ["other", "ranker@candidate", "ranker@9", "ranker@uri:models/none"] {
        let answer = pool.infer(reference, None, Vec::new()).await;
        assert!(
            matches!(answer, Err(InferError::NotFound(_))),
            "{reference}: {answer:?}"
        );
    }
    let answer = pool.infer("no such name", None, Vec::new()).await;
    assert!(matches!(answer, Err(InferError::Invalid(_))), "{answer:?}");
}

#[tokio::test]
async fn without_a_worker_models_are_unavailable_until_one_joins() {
    let pool = pool(registry().await, 2000);
    let echo = Arc::new(Echo::default());
    let address = serve(echo).await;
    let early = tokio::spawn({
        let pool = pool.clone();
        async move { pool.infer("ranker", None, vec![tensor()]).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    pool.join("worker", &address, true).unwrap();
    assert!(early.await.unwrap().is_ok());
    pool.child_left();
    assert!(!pool.is_ready());
    let impatient = self::pool(registry().await, 10);
    let answer = impatient.infer("ranker", None, vec![tensor()]).await;
    assert!(matches!(answer, Err(InferError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn what_the_model_refuses_is_invalid() {
    let pool = pool(registry().await, 2000);
    let address = serve(Arc::new(Echo::default())).await;
    pool.join("worker", &address, false).unwrap();
    let answer = pool.infer("ranker", None, Vec::new()).await;
    assert!(
        matches!(&answer, Err(InferError::Invalid(text)) if text.contains("input `x`")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_model_is_asked_where_it_is_loaded_and_elsewhere_when_many_ask() {
    let (one, other) = (Arc::new(Echo::default()), Arc::new(Echo::default()));
    let pool = pool(registry().await, 2000);
    pool.join("one", &serve(one.clone()).await, false).unwrap();
    pool.join("other", &serve(other.clone()).await, false).unwrap();
    for _ in 0..8 {
        pool.infer("ranker", None, vec![tensor()]).await.unwrap();
    }
    let loads = || one.loads.load(Ordering::Relaxed) + other.loads.load(Ordering::Relaxed);
    assert_eq!(loads(), 1);
    for worker in [&one, &other] {
        worker.held.send_replace(true);
    }
    let requests = (0..32).map(|_| pool.infer("ranker", None, vec![tensor()]));
    let release = async {
        while loads() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for worker in [&one, &other] {
            worker.held.send_replace(false);
        }
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(requests), release);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(loads(), 2);
}

#[tokio::test]
async fn what_one_worker_cannot_answer_another_does() {
    let pool = pool(registry().await, 2000);
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = unused.local_addr().unwrap().to_string();
    drop(unused);
    pool.join("gone", &nobody, false).unwrap();
    let alone = pool.infer("ranker", None, vec![tensor()]).await;
    assert!(matches!(alone, Err(InferError::Unavailable(_))), "{alone:?}");
    pool.join("there", &serve(Arc::new(Echo::default())).await, false)
        .unwrap();
    for _ in 0..4 {
        pool.infer("ranker", None, vec![tensor()]).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_is_answered_by_one_version_and_both_have_their_share() {
    let store = registry().await;
    add_version(&*store, 4).await;
    let split = serde_json::json!({ "version": 3, "versions": { "3": 50, "4": 50 } });
    put(&*store, "ranker/aliases/champion", split).await;
    let pool = pool(store, 2000);
    let address = serve(Arc::new(Echo::default())).await;
    pool.join("worker", &address, false).unwrap();
    let mut answered = BTreeMap::<String, usize>::new();
    for nth in 0..40 {
        let key = Some(format!("user-{nth}"));
        let first = pool.infer("ranker", key.clone(), vec![tensor()]).await.unwrap();
        let again = pool.infer("ranker", key, vec![tensor()]).await.unwrap();
        assert_eq!(first.model_version, again.model_version);
        *answered.entry(first.model_version).or_default() += 1;
    }
    assert!(answered["3"] > 5 && answered["4"] > 5, "{answered:?}");
    let pinned = pool.infer("ranker@4", None, vec![tensor()]).await.unwrap();
    assert_eq!(pinned.model_version, "4");
}

#[tokio::test]
async fn requests_of_a_champion_are_counted_while_it_is_watched() {
    for watched in [true, false] {
        let store = registry().await;
        let alias = serde_json::json!({ "version": 3, "watched": watched });
        put(&*store, "ranker/aliases/champion", alias).await;
        let pool = pool(store, 2000);
        let address = serve(Arc::new(Echo::default())).await;
        pool.join("worker", &address, false).unwrap();
        pool.infer("ranker@3", None, vec![tensor()]).await.unwrap();
        assert_eq!(pool.tallies().models(), Vec::<String>::new());
        pool.infer("ranker", None, vec![tensor()]).await.unwrap();
        assert_eq!(!pool.tallies().models().is_empty(), watched);
    }
}
