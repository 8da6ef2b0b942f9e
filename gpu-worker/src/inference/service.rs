//! The gRPC service: each call of the protocol, with typed statuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tidegate_trace::{Context, Kind, Span, Spans, now_ns};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::model::{Model, Opened};
use super::padding::Fill;
use super::proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use super::proto::infer_parameter::ParameterChoice as Choice;
use super::proto::model_metadata_response::TensorMetadata;
use super::proto::model_repository_parameter::ParameterChoice;
use super::proto::repository_index_response::ModelIndex;
use super::proto::*;
use super::provider::InstanceKind;
use super::queue::Batching;
use super::runtime;
use super::signature::Signature;
use super::store::ModelStore;
use super::tensors::Port;
use crate::host::{Host, HostError, Right};
use crate::train::hex;

/// How many instances a model may have.
const INSTANCES: std::ops::RangeInclusive<u64> = 1..=64;

/// A group of instances, as a model's configuration has it.
#[derive(Debug, Clone, Copy)]
struct Instances {
    count: usize,
    kind: InstanceKind,
}

/// The service.
#[derive(Debug)]
pub struct InferenceService {
    store: Arc<ModelStore>,
    host: Host,
    /// Loads go one by one: two calls for one model read it once.
    loading: Mutex<()>,
    spans: Spans,
}

impl InferenceService {
    /// A service of the models in `store`, which are read through `host`.
    pub fn new(store: Arc<ModelStore>, host: Host, spans: Spans) -> Self {
        Self {
            store,
            host,
            loading: Mutex::new(()),
            spans,
        }
    }

    /// The service as tonic serves it; `most` are the bytes of a request.
    pub fn into_server(self, most: usize) -> GrpcInferenceServiceServer<Self> {
        GrpcInferenceServiceServer::new(self).max_decoding_message_size(most)
    }

    async fn load(
        &self,
        (name, version): (&str, &str),
        (uri, sha256, pass): (&str, Option<&str>, &str),
        instances: Option<Instances>,
        (batching, fill): (Option<Batching>, Fill),
    ) -> Result<(), Status> {
        let (bucket, key) = uri
            .split_once('/')
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or_else(|| {
                Status::invalid_argument(format!("parameter `uri` is `{uri}`, allowed is `bucket/key`"))
            })?;
        let _one = self.loading.lock().await;
        if !version.is_empty() && self.store.get(name, version).is_ok() {
            return Ok(());
        }
        runtime::environment().map_err(Status::failed_precondition)?;
        let read = self.host.read(bucket, key, Right::Pass(pass));
        let file = read.await.map_err(|e| status(&e))?;
        // What gives way does so before the file is opened: it takes its own size at least, and once more to be kept.
        let no_room = |reason| Status::unavailable(format!("object `{uri}` {reason}"));
        drop(self.store.room(2 * file.len() as u64).await.map_err(no_room)?);
        let kind = instances.map(|instances| instances.kind).unwrap_or_default();
        // Another worker may have other providers.
        let execution = self.store.limits().execution.of_kind(kind).map_err(no_room)?;
        let owned = (name.to_owned(), version.to_owned());
        let sha256 = sha256.map(str::to_owned);
        let open = move || {
            sha256.map_or(Ok(()), |sha256| registered(&file, &sha256))?;
            Opened::open(&owned.0, &owned.1, file, execution)?.padded(&fill)
        };
        let opened = tokio::task::spawn_blocking(open)
            .await
            .unwrap_or_else(|e| Err(format!("could not be loaded: {e}")))
            .map_err(|reason| Status::failed_precondition(format!("object `{uri}` {reason}")))?;
        let count = instances.map(|instances| instances.count);
        let bytes = self.store.add(opened, count, batching).await.map_err(no_room)?;
        tracing::info!(
            model = name,
            version,
            uri,
            bytes,
            instances = count,
            "model loaded"
        );
        Ok(())
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
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
        Ok(Response::new(ServerReadyResponse {
            ready: runtime::environment().is_ok(),
        }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        let ready = self.store.get(&request.name, &request.version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "tidegate-worker".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: vec!["model_repository".to_owned()],
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let model = self.store.get(&request.name, &request.version)?;
        let model = model.signature();
        Ok(Response::new(ModelMetadataResponse {
            name: model.name.clone(),
            versions: self.store.versions(&request.name),
            platform: "onnxruntime_onnx".to_owned(),
            inputs: model.inputs.iter().map(metadata).collect(),
            outputs: model.outputs.iter().map(metadata).collect(),
            properties: model.properties.clone(),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let (since, above) = (now_ns(), caller(&request));
        let request = request.into_inner();
        let model = self.store.get(&request.model_name, &request.model_version)?;
        let answer = match patience(&request)? {
            Some(patience) => tokio::time::timeout(patience, model.infer(request))
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("not within {patience:?}")))),
            None => model.infer(request).await,
        };
        let failed = answer.as_ref().err();
        self.spans
            .record(|| Some(span(above?, "ModelInfer", since, model.signature(), failed)));
        answer.map(Response::new)
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let asked = |signature: &Signature| {
            (name.is_empty() || signature.name == name)
                && (version.is_empty() || signature.version == version)
        };
        let models = self.store.all().into_iter();
        let models = models.filter(|model| asked(model.signature()));
        let told = |model: Arc<Model>| {
            let Signature { name, version, .. } = model.signature();
            model.statistics().told(name, version)
        };
        let model_stats = models.map(told).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        _: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let ready = |model: &Arc<Model>| ModelIndex {
            name: model.signature().name.clone(),
            version: model.signature().version.clone(),
            state: "READY".to_owned(),
            reason: String::new(),
        };
        let models = self.store.all().iter().map(ready).collect();
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let above = caller(&request);
        let request = request.into_inner();
        if request.model_name.is_empty() {
            return Err(Status::invalid_argument(
                "`model_name` is empty, a name is needed",
            ));
        }
        let version = text(&request.parameters, "version")?.unwrap_or_default();
        let uri = text(&request.parameters, "uri")?
            .ok_or_else(|| Status::invalid_argument("parameter `uri` is missing, allowed is `bucket/key`"))?;
        let loading = self.load(
            (request.model_name.as_str(), version),
            (
                uri,
                text(&request.parameters, "sha256")?,
                text(&request.parameters, "pass")?.unwrap_or_default(),
            ),
            instances(&request.parameters)?,
            (batching(&request.parameters)?, fill(&request.parameters)?),
        );
        match above {
            Some(above) => tidegate_trace::within(above, loading).await?,
            None => loading.await?,
        }
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let request = request.into_inner();
        let version = text(&request.parameters, "version")?.unwrap_or_default();
        self.store.remove(&request.model_name, version)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

/// Checks that a file is the one that was registered.
fn registered(file: &[u8], sha256: &str) -> Result<(), String> {
    let found = hex(&Sha256::digest(file));
    if found == sha256 {
        return Ok(());
    }
    Err(format!(
        "has the SHA-256 `{found}`, its version was registered with `{sha256}`"
    ))
}

/// How long a request may take by its own `timeout`, in microseconds.
fn patience(request: &ModelInferRequest) -> Result<Option<Duration>, Status> {
    let timeout = request.parameters.get("timeout");
    let micros = match timeout.and_then(|timeout| timeout.parameter_choice.as_ref()) {
        None => return Ok(None),
        Some(Choice::Int64Param(micros)) => u64::try_from(*micros).ok(),
        Some(Choice::Uint64Param(micros)) => Some(*micros),
        Some(_) => None,
    };
    let micros = micros.ok_or_else(|| {
        Status::invalid_argument(
            "parameter `timeout` is not allowed, expected microseconds, a whole number from 0",
        )
    })?;
    // None at all is how clients say that there is no end.
    Ok(Some(Duration::from_micros(micros)).filter(|patience| !patience.is_zero()))
}

/// Where a request stands in the trace of who sent it.
fn caller<T>(request: &Request<T>) -> Option<Context> {
    Context::parse(request.metadata().get("traceparent")?.to_str().ok()?)
}

/// The span of an answered call.
fn span(
    above: Context,
    method: &'static str,
    since: u64,
    model: &Signature,
    failed: Option<&Status>,
) -> Span {
    let own = above.below(&[method]);
    let span = Span::new(own, Some(above), Kind::Server, method, (since, now_ns()))
        .with("rpc.system", "grpc")
        .with("rpc.service", "inference.GRPCInferenceService")
        .with("rpc.method", method)
        .with("tidegate.model", model.name.as_str())
        .with("tidegate.model_version", model.version.as_str());
    match failed {
        Some(status) => span.failed("grpc", status.message()),
        None => span,
    }
}

fn metadata(port: &Port) -> TensorMetadata {
    TensorMetadata {
        name: port.name.clone(),
        datatype: port.element.name().to_owned(),
        shape: port.shape.clone(),
    }
}

/// How requests of a model that is loaded are run together, if they are.
fn batching(parameters: &HashMap<String, ModelRepositoryParameter>) -> Result<Option<Batching>, Status> {
    let most = number(parameters, "max_batch_size")?.unwrap_or(0);
    let delay = number(parameters, "max_queue_delay_microseconds")?.unwrap_or(0);
    Ok((most > 1).then(|| Batching {
        most: usize::try_from(most).unwrap_or(usize::MAX),
        delay: Duration::from_micros(delay),
    }))
}

/// What inputs of a model that is loaded are filled up with.
fn fill(parameters: &HashMap<String, ModelRepositoryParameter>) -> Result<Fill, Status> {
    let fill = text(parameters, "padding")?.map(serde_json::from_str);
    let wrong = |error| {
        Status::invalid_argument(format!(
            "parameter `padding` is no object of whole numbers by inputs: {error}"
        ))
    };
    Ok(fill.transpose().map_err(wrong)?.unwrap_or_default())
}

/// The instances of a model that is loaded, where a group of them is configured.
fn instances(parameters: &HashMap<String, ModelRepositoryParameter>) -> Result<Option<Instances>, Status> {
    let Some(count) = number(parameters, "instance_group_count")? else {
        return Ok(None);
    };
    if !INSTANCES.contains(&count) {
        let (least, most) = (INSTANCES.start(), INSTANCES.end());
        return Err(Status::invalid_argument(format!(
            "parameter `instance_group_count` is {count}, allowed are {least} to {most}"
        )));
    }
    let word = text(parameters, "instance_group_kind")?.unwrap_or("KIND_AUTO");
    let kind = InstanceKind::of(word).ok_or_else(|| {
        Status::invalid_argument(format!(
            "parameter `instance_group_kind` is `{word}`, allowed are `KIND_AUTO`, `KIND_CPU` and `KIND_GPU`"
        ))
    })?;
    Ok(Some(Instances {
        count: usize::try_from(count).unwrap_or(1),
        kind,
    }))
}

fn number(parameters: &HashMap<String, ModelRepositoryParameter>, name: &str) -> Result<Option<u64>, Status> {
    let number = match parameters.get(name).map(|parameter| &parameter.parameter_choice) {
        None => return Ok(None),
        Some(Some(ParameterChoice::Int64Param(number))) => u64::try_from(*number).ok(),
        Some(_) => None,
    };
    let wrong = || Status::invalid_argument(format!("parameter `{name}` is no whole number from 0"));
    number.map(Some).ok_or_else(wrong)
}

fn text<'a>(
    parameters: &'a HashMap<String, ModelRepositoryParameter>,
    name: &str,
) -> Result<Option<&'a str>, Status> {
    match parameters.get(name).map(|parameter| &parameter.parameter_choice) {
        None => Ok(None),
        Some(Some(ParameterChoice::StringParam(text))) => Ok(Some(text)),
        Some(_) => Err(Status::invalid_argument(format!(
            "parameter `{name}` is not a string"
        ))),
    }
}

fn status(error: &HostError) -> Status {
    match error {
        HostError::NotFound(_) => Status::failed_precondition(error.to_string()),
        HostError::LeaseLost | HostError::Refused { .. } => Status::permission_denied(error.to_string()),
        HostError::Unavailable { .. } => Status::unavailable(error.to_string()),
    }
}
