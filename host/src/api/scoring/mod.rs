//! MLflow's scoring protocol: `POST /models/NAME/invocations`, `POST /invocations` for the model that the configuration names,
//! and `GET /ping`. A function's route of the same path goes before.

mod columns;
mod tensors;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use self::columns::Asked;
use super::Faces;
use super::error::ApiError;
use super::oip::{self, Named};
use crate::inference::open_inference::ModelInferRequest;

/// Whether a path may be one of these; a function's route may be as well.
pub fn is_scoring(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    matches!(
        (parts.next(), parts.next(), parts.next(), parts.next()),
        (Some("ping" | "invocations"), None, ..)
            | (Some("models"), Some(_), Some("ping" | "invocations"), None)
    )
}

/// The routes.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/ping", get(ping))
        .route("/invocations", post(score_configured))
        .route("/models/{model}/ping", get(ping_model))
        .route("/models/{model}/invocations", post(score))
        .method_not_allowed_fallback(async |method: http::Method, uri: http::Uri| {
            let message = format!("`{}` does not take `{method}`", uri.path());
            Refusal(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message))
        })
        .with_state(faces)
}

/// An error in MLflow's words.
struct Refusal(ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = match self.0.status {
            StatusCode::BAD_REQUEST => "INVALID_PARAMETER_VALUE",
            StatusCode::NOT_FOUND => "RESOURCE_DOES_NOT_EXIST",
            StatusCode::TOO_MANY_REQUESTS => "REQUEST_LIMIT_EXCEEDED",
            StatusCode::SERVICE_UNAVAILABLE => "TEMPORARILY_UNAVAILABLE",
            _ => "BAD_REQUEST",
        };
        let body = json!({ "error_code": code, "message": self.0.message });
        let mut response = self.0.into_response();
        *response.body_mut() = Body::from(body.to_string());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response
    }
}

async fn ping(State(faces): State<Faces>) -> Result<String, Refusal> {
    if oip::is_ready(&faces) {
        return Ok("\n".to_owned());
    }
    let message = "no worker is connected that answers inference requests";
    Err(ApiError::busy(StatusCode::SERVICE_UNAVAILABLE, message).into())
}

async fn ping_model(State(faces): State<Faces>, Path(named): Path<Named>) -> Result<String, Refusal> {
    faces.workers.metadata(&named.reference()?).await?;
    Ok("\n".to_owned())
}

async fn score_configured(
    state: State<Faces>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let Some(model) = state.config.inference.invocations.clone() else {
        let message = "`inference.invocations` of the host's configuration names no model; ask `/models/NAME/invocations`";
        return Err(ApiError::missing(message).into());
    };
    let named = Named { model, version: None };
    score(state, Path(named), headers, body).await
}

async fn score(
    State(faces): State<Faces>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    let reference = named.reference()?;
    let (_places, body) = oip::enter_and_read(&faces, &headers, body).await?;
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let asked = Asked::read(kind.unwrap_or("application/json"), &body)?;
    drop(body);
    let takes = faces.workers.metadata(&reference).await?;
    let mut request = ModelInferRequest::default();
    oip::keyed(&mut request, &headers);
    let request = tensors::fill(request, &takes.inputs, asked)?;
    oip::bounded(&faces, &request)?;
    let answer = faces.workers.ask(&reference, request, None).await?;
    Ok(Json(json!({ "predictions": tensors::predictions(&answer)? })))
}
