//! Models for clients of the field: the Open Inference Protocol v2 under `/v2` ([`router`]), and over gRPC ([`Grpc`]).
//!
//! The models are those of the registry, and answered by the same workers as functions' `infer`. Whoever reaches a
//! function's route may ask a model; to load and unload one is the operator's.

mod answer;
mod datatype;
mod elements;
mod grpc;
mod infer;
mod input;
pub mod metrics;
mod models;
mod refusal;
mod repository;
mod request;
mod server;

use axum::Router;
use axum::routing::{get, post};
use http::Method;
use serde::Deserialize;
use tidegate_ml::reference::{ModelRef, Target};

use super::Faces;
use super::error::ApiError;
pub(super) use datatype::Datatype;
pub(super) use elements::Elements;
pub use grpc::Grpc;
pub use infer::units;
pub(super) use infer::{bounded, enter_and_read, keyed};
pub use refusal::Refusal;
pub(super) use server::is_ready;

/// How many bytes of a body are JSON, where bytes of tensors follow.
const HEADER_LENGTH: &str = "inference-header-content-length";
/// What a request has in common with others that the same version is to answer, where two share them.
const ROUTING_KEY_HEADER: &str = "tidegate-routing-key";
/// The media type of such a body.
const OCTETS: &str = "application/octet-stream";
/// What the operator alone may call.
const OPERATORS: &str = "/v2/repository/models/";

/// Whether a path is the operator's.
pub fn is_operators(path: &str) -> bool {
    path.starts_with(OPERATORS)
}

/// The routes.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/v2", get(server::metadata))
        .route("/v2/", get(server::metadata))
        .route("/v2/health/live", get(server::live))
        .route("/v2/health/ready", get(server::ready))
        .route("/v2/models/{model}", get(models::metadata))
        .route("/v2/models/{model}/ready", get(models::ready))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}", get(models::metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(models::ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .fallback(async |method: Method, uri: http::Uri| {
            Refusal(ApiError::missing(format!(
                "there is no `{method} {}`",
                uri.path()
            )))
        })
        .method_not_allowed_fallback(async |method: Method, uri: http::Uri| {
            let message = format!("`{}` does not take `{method}`", uri.path());
            Refusal(ApiError::new(http::StatusCode::METHOD_NOT_ALLOWED, message))
        })
        .with_state(faces)
}

/// The model that a path names, or a message.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

impl Named {
    /// Its reference: the champion where there is no version, which is a number or an alias.
    pub(super) fn reference(&self) -> Result<String, ApiError> {
        let text = match &self.version {
            Some(version) => format!("{}@{version}", self.model),
            None => self.model.clone(),
        };
        let parsed: ModelRef = text.parse().map_err(|error| ApiError::bad(format!("{error}")))?;
        match parsed.target {
            Target::Object { .. } => Err(ApiError::bad(format!(
                "`{text}` names a file, allowed are versions and aliases of registered models"
            ))),
            Target::Alias(_) | Target::Version(_) => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_what_is_registered_and_no_file() {
        let named = |model: &str, version: Option<&str>| {
            let (model, version) = (model.to_owned(), version.map(str::to_owned));
            Named { model, version }.reference()
        };
        assert_eq!(named("ranker", None), Ok("ranker".into()));
        assert_eq!(named("ranker", Some("3")), Ok("ranker@3".into()));
        assert_eq!(named("ranker", Some("candidate")), Ok("ranker@candidate".into()));
        for (model, version) in [
            ("ranker@uri:data/secret", None),
            ("ranker", Some("uri:data/secret")),
        ] {
            let error = named(model, version).unwrap_err();
            assert!(error.message.contains("names a file"), "{error}");
        }
        assert!(named("no such", None).is_err());
    }
}
