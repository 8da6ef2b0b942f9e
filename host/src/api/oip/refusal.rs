//! Errors as the protocol has them: `{"error": "..."}`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::json;

use crate::api::error::ApiError;
use crate::inference::Failure;

/// An error that is told in the protocol's words.
#[derive(Debug)]
pub struct Refusal(pub ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let ApiError {
            status,
            message,
            retry_after,
        } = self.0;
        let mut response = (status, axum::Json(json!({ "error": message }))).into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What more than the bound of bytes is answered with.
pub(super) fn too_large(what: &str, bound: u64) -> Failure {
    Failure::TooLarge(ApiError::too_large(what, bound).message)
}
