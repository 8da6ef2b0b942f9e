//! Errors as clients see them: a status, a code, one sentence.

use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tidegate_runtime::dispatch::NoRoom;
use tidegate_runtime::platform::{ExportError, ReplayError};
use tidegate_runtime::store::{CommitError, StoreError};
use tidegate_runtime::{AliasError, DeployError, EmitError};

/// An answer that says what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// One sentence: what, where, and what was allowed.
    pub message: String,
    /// Seconds until it makes sense to try again.
    pub retry_after: Option<u32>,
}

impl ApiError {
    /// An error with a status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Not now.
    pub fn busy(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(status, message)
        }
    }

    /// The body is larger than a bound.
    pub fn too_large(what: &str, bound: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("{what} is larger than the {bound} bytes that are allowed"),
        )
    }

    /// The answer's body.
    pub fn body(&self) -> String {
        let code = self
            .status
            .canonical_reason()
            .unwrap_or("error")
            .to_lowercase()
            .replace([' ', '-'], "_");
        json!({ "error": { "code": code, "message": self.message } }).to_string()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            self.body(),
        )
            .into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::busy(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<NoRoom> for ApiError {
    fn from(error: NoRoom) -> Self {
        Self::busy(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { .. } | CommitError::Lost { .. } => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            CommitError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<EmitError> for ApiError {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Commit(error) => error.into(),
            EmitError::NoRoom(error) => error.into(),
            EmitError::NoFunction { .. } => Self::missing(error.to_string()),
            other => Self::bad(other.to_string()),
        }
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Commit(error) => error.into(),
            DeployError::Store(error) => error.into(),
            DeployError::Taken(_) | DeployError::Versions { .. } => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            DeployError::Mistakes(mistakes) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, mistakes.to_string())
            }
        }
    }
}

impl From<AliasError> for ApiError {
    fn from(error: AliasError) -> Self {
        match error {
            AliasError::Deploy(error) => error.into(),
            AliasError::Refused(message) => Self::bad(message),
            AliasError::NothingBefore(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            other => Self::missing(other.to_string()),
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::NoApp(_) => Self::missing(error.to_string()),
            ExportError::Spin(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        }
    }
}

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Version(error) => error.into(),
            ReplayError::NoEvent(_) => Self::missing(error.to_string()),
            ReplayError::Handler { .. } | ReplayError::Http { .. } => Self::bad(error.to_string()),
            ReplayError::NoPlace(_) | ReplayError::Unavailable(_) => {
                Self::busy(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(error: JsonRejection) -> Self {
        Self::new(error.status(), error.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(error: QueryRejection) -> Self {
        Self::new(error.status(), error.body_text())
    }
}

impl From<BytesRejection> for ApiError {
    fn from(error: BytesRejection) -> Self {
        Self::new(error.status(), error.body_text())
    }
}

/// A JSON body; what is wrong with it is told as an [`ApiError`].
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> axum::extract::FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        let axum::Json(value) = axum::Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query of an address.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> axum::extract::FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Query(value) = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}
