//! The protocol over gRPC, on a port of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use tidegate_runtime::sandbox::Body;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tower::Service as _;

use super::datatype::Datatype;
use super::repository::{DEPENDENTS, indexed, only};
use super::{Named, infer, models, request, server};
use crate::api::error::ApiError;
use crate::api::traced::Entered;
use crate::api::{Faces, guard};
use crate::inference::merged;
use crate::inference::open_inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use crate::inference::open_inference::*;
use crate::server::{Handler, Incoming, Peer, Unhurried};

/// Bytes of an answer at most.
const ANSWER: usize = 1 << 30;
const PACKAGE: &str = "/inference.GRPCInferenceService/";

type Answered<T> = Result<tonic::Response<T>, Status>;

/// Answers calls of the protocol's service.
pub struct Grpc {
    faces: Faces,
    service: GrpcInferenceServiceServer<Service>,
}

impl Grpc {
    /// The service over the registry's models.
    pub fn new(faces: Faces) -> Self {
        let bound = usize::try_from(faces.config.inference.max_request).unwrap_or(usize::MAX);
        let service = GrpcInferenceServiceServer::new(Service(faces.clone()));
        Self {
            faces,
            service: service
                .max_decoding_message_size(bound)
                .max_encoding_message_size(ANSWER),
        }
    }

    async fn call(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response<tonic::body::Body>, Status> {
        let call = request.uri().path().strip_prefix(PACKAGE).unwrap_or_default();
        let operators = matches!(call, "RepositoryModelLoad" | "RepositoryModelUnload");
        if operators {
            let (config, host) = (&self.faces.config.gateway, request.uri().host());
            guard::management(config, peer, request.headers(), host, "loading models")
                .map_err(|refused| Status::permission_denied(refused.message))?;
        }
        // Before the message is read.
        let _place = match call {
            "ModelInfer" => Some(infer::enter(&self.faces).await?),
            _ => None,
        };
        let pause = self.faces.config.gateway.body_timeout;
        let request = request.map(|body| Unhurried::new(body, pause));
        let answered = self.service.clone().call(request).await;
        Ok(answered.unwrap_or_else(|never| match never {}))
    }
}

impl Handler for Grpc {
    async fn handle(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let (started, entered) = (Instant::now(), Entered::new(&request));
        let answered = tidegate_trace::within(entered.context, self.call(peer, request)).await;
        let response = answered.unwrap_or_else(Status::into_http);
        let seconds = started.elapsed().as_secs_f64();
        let status = response.status();
        self.faces
            .metrics
            .answered("grpc", &Method::POST, status, seconds);
        entered.answered(&self.faces.spans, "grpc", status);
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

struct Service(Faces);

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: tonic::Request<ServerLiveRequest>) -> Answered<ServerLiveResponse> {
        answer(ServerLiveResponse { live: true })
    }

    async fn server_ready(&self, _: tonic::Request<ServerReadyRequest>) -> Answered<ServerReadyResponse> {
        let ready = server::is_ready(&self.0);
        answer(ServerReadyResponse { ready })
    }

    async fn server_metadata(
        &self,
        _: tonic::Request<ServerMetadataRequest>,
    ) -> Answered<ServerMetadataResponse> {
        answer(ServerMetadataResponse {
            name: server::NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: server::EXTENSIONS.map(str::to_owned).into(),
        })
    }

    async fn model_ready(&self, request: tonic::Request<ModelReadyRequest>) -> Answered<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let reference = named(name, version).reference().map_err(status)?;
        self.0.workers.metadata(&reference).await?;
        answer(ModelReadyResponse { ready: true })
    }

    async fn model_metadata(
        &self,
        request: tonic::Request<ModelMetadataRequest>,
    ) -> Answered<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let found = models::described(&self.0, &named(name, version)).await;
        answer(found.map_err(status)?)
    }

    async fn model_infer(&self, request: tonic::Request<ModelInferRequest>) -> Answered<ModelInferResponse> {
        let deadline = deadline(request.metadata())?;
        let (metadata, _, mut request) = request.into_parts();
        infer::keyed(&mut request, metadata.as_ref());
        let patience = request::patience_of(&request).map_err(status)?;
        request::refuse_extensions(&request).map_err(status)?;
        let named = named(request.model_name.clone(), request.model_version.clone());
        let reference = named.reference().map_err(status)?;
        let typed = request.inputs.iter().any(|input| input.contents.is_some());
        let id = request.id.clone();
        let patience = patience.into_iter().chain(deadline).min();
        let mut answered = self.0.workers.ask(&reference, request, patience).await?;
        answered.id = id;
        if typed {
            into_typed(&mut answered);
        }
        answer(answered)
    }

    async fn model_statistics(
        &self,
        request: tonic::Request<ModelStatisticsRequest>,
    ) -> Answered<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let told = self.0.workers.statistics().await;
        let mut model_stats = merged(told.into_iter().flat_map(|(_worker, models)| models));
        model_stats.retain(|model| {
            (name.is_empty() || model.name == name) && (version.is_empty() || model.version == version)
        });
        answer(ModelStatisticsResponse { model_stats })
    }

    async fn repository_index(
        &self,
        request: tonic::Request<RepositoryIndexRequest>,
    ) -> Answered<RepositoryIndexResponse> {
        let models = indexed(&self.0, request.into_inner().ready).await;
        answer(RepositoryIndexResponse {
            models: models.map_err(status)?,
        })
    }

    async fn repository_model_load(
        &self,
        request: tonic::Request<RepositoryModelLoadRequest>,
    ) -> Answered<RepositoryModelLoadResponse> {
        let request = request.into_inner();
        only(&[], request.parameters.keys()).map_err(status)?;
        let reference = named(request.model_name, String::new()).reference();
        self.0.workers.load(&reference.map_err(status)?).await?;
        answer(RepositoryModelLoadResponse {})
    }

    async fn repository_model_unload(
        &self,
        request: tonic::Request<RepositoryModelUnloadRequest>,
    ) -> Answered<RepositoryModelUnloadResponse> {
        let request = request.into_inner();
        only(&[DEPENDENTS], request.parameters.keys()).map_err(status)?;
        let reference = named(request.model_name, String::new()).reference();
        self.0.workers.unload(&reference.map_err(status)?).await?;
        answer(RepositoryModelUnloadResponse {})
    }
}

fn answer<T>(message: T) -> Answered<T> {
    Ok(tonic::Response::new(message))
}

fn named(model: String, version: String) -> Named {
    let version = Some(version).filter(|version| !version.is_empty());
    Named { model, version }
}

/// Outputs as typed contents, as the inputs came: all of them, or none where one has no such form.
fn into_typed(answered: &mut ModelInferResponse) {
    let pairs = answered.outputs.iter().zip(&answered.raw_output_contents);
    let typed = pairs.map(|(output, raw)| Datatype::named(&output.datatype).ok()?.typed(raw));
    let Some(typed) = typed.collect::<Option<Vec<_>>>() else {
        return;
    };
    for (output, contents) in answered.outputs.iter_mut().zip(typed) {
        output.contents = Some(contents);
    }
    answered.raw_output_contents.clear();
}

fn status(error: ApiError) -> Status {
    use http::StatusCode;
    match error.status {
        StatusCode::BAD_REQUEST => Status::invalid_argument(error.message),
        StatusCode::NOT_FOUND => Status::not_found(error.message),
        StatusCode::PAYLOAD_TOO_LARGE => Status::out_of_range(error.message),
        StatusCode::TOO_MANY_REQUESTS => Status::resource_exhausted(error.message),
        StatusCode::GATEWAY_TIMEOUT => Status::deadline_exceeded(error.message),
        _ => Status::unavailable(error.message),
    }
}

/// The time that the caller's `grpc-timeout` leaves: at most eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Result<Option<Duration>, Status> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .unwrap_or_default();
    let number: Option<u64> = number.parse().ok().filter(|_| number.len() <= 8);
    let parsed = number.and_then(|number| match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    });
    let wrong = || {
        Status::invalid_argument(format!(
            "`grpc-timeout` is {value:?}, expected a number and a unit"
        ))
    };
    parsed.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &'static str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        deadline(&metadata).ok().flatten()
    }

    #[test]
    fn a_callers_deadline_is_read_as_grpc_has_it() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for odd in ["", "m", "5", "123456789S", "-1S", "1x"] {
            assert_eq!(timeout(odd), None, "{odd}");
        }
        assert_eq!(deadline(&MetadataMap::new()).unwrap(), None);
    }
}
