//! Why a model does not answer, as each of the ways in tells it.

use http::StatusCode;
use tidegate_runtime::inference::InferError;
use tonic::{Code, Status};

use super::members::unreached;
use crate::api::error::ApiError;

/// Why there is no answer; one variant per decision of who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such model or version, or it was taken out of service.
    #[error("{0}")]
    NotFound(String),
    /// The model does not take these tensors.
    #[error("{0}")]
    Invalid(String),
    /// More than the bound of bytes.
    #[error("{0}")]
    TooLarge(String),
    /// Too many wait already.
    #[error("{0}")]
    Busy(String),
    /// Nothing can answer now.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody waits for the answer any more.
    #[error("{0}")]
    Expired(String),
}

impl Failure {
    /// What a worker's status says.
    pub(super) fn of(status: &Status, about: &str) -> Self {
        let text = format!("{about}: {}", status.message());
        match status.code() {
            _ if unreached(status) => Self::Unavailable(text),
            Code::NotFound => Self::NotFound(text),
            Code::InvalidArgument | Code::FailedPrecondition => Self::Invalid(text),
            Code::OutOfRange => Self::TooLarge(text),
            Code::ResourceExhausted => Self::Busy(text),
            Code::DeadlineExceeded | Code::Cancelled => Self::Expired(text),
            _ => Self::Unavailable(text),
        }
    }

    /// The outcome that is counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Invalid(_) => "invalid",
            Self::TooLarge(_) => "too_large",
            Self::Busy(_) => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Expired(_) => "expired",
        }
    }
}

impl From<Failure> for InferError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::NotFound(_) => Self::NotFound(text),
            Failure::Invalid(_) | Failure::TooLarge(_) => Self::Invalid(text),
            Failure::Busy(_) | Failure::Unavailable(_) | Failure::Expired(_) => Self::Unavailable(text),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::NotFound(_) => Self::missing(text),
            Failure::Invalid(_) => Self::bad(text),
            Failure::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            Failure::Busy(_) => Self::busy(StatusCode::TOO_MANY_REQUESTS, text),
            Failure::Unavailable(_) => Self::busy(StatusCode::SERVICE_UNAVAILABLE, text),
            Failure::Expired(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, text),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::NotFound(_) => Self::not_found(text),
            Failure::Invalid(_) => Self::invalid_argument(text),
            Failure::TooLarge(_) => Self::out_of_range(text),
            Failure::Busy(_) => Self::resource_exhausted(text),
            Failure::Unavailable(_) => Self::unavailable(text),
            Failure::Expired(_) => Self::deadline_exceeded(text),
        }
    }
}
