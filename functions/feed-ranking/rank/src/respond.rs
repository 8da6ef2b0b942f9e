//! Responses.

use bytes::Bytes;
use feed_ranking::rank::{BadRequest, error_body};
use spin_sdk::http::{FullBody, HeaderName, HeaderValue, Response, StatusCode};
use tidegate_sdk::{Error, Failure};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The text format of Prometheus.
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");
const ALLOW: HeaderName = HeaderName::from_static("allow");
/// Seconds after which a request that found no model may be tried again.
const NO_MODEL: HeaderValue = HeaderValue::from_static("10");
/// Seconds after which a request that found the platform busy may be tried again.
const BUSY: HeaderValue = HeaderValue::from_static("1");

/// A response in the making.
pub(crate) struct Reply {
    status: StatusCode,
    content_type: HeaderValue,
    header: Option<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type: JSON,
            header: None,
            body,
        }
    }

    pub(crate) fn metrics(text: String) -> Self {
        Self {
            content_type: PROMETHEUS,
            ..Self::json(StatusCode::OK, text.into_bytes())
        }
    }

    fn error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json(status, error_body(code, message, None))
    }

    pub(crate) fn not_found(path: &str) -> Self {
        let message = format!("no route `{path}`, there are `/predict`, `/rank/health` and `/rank/metrics`");
        Self::error(StatusCode::NOT_FOUND, "no_route", &message)
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("this route takes `{allowed}` only");
        Self::error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message)
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    pub(crate) fn into_http(self) -> Response<FullBody<Bytes>> {
        let mut response = Response::new(FullBody::new(self.body.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("content-type"), self.content_type);
        headers.extend(self.header);
        response
    }
}

impl From<BadRequest> for Reply {
    fn from(bad: BadRequest) -> Self {
        Self::json(StatusCode::BAD_REQUEST, bad.body())
    }
}

/// No model yet is a state that passes, and so is a busy platform; the rest is ours to mend.
impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        let message = error.message();
        match error {
            Error::NotFound(_) => {
                Self::error(StatusCode::SERVICE_UNAVAILABLE, "no_model", message).with(RETRY_AFTER, NO_MODEL)
            }
            Error::Unavailable(_) => {
                Self::error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).with(RETRY_AFTER, BUSY)
            }
            Error::Denied(_) | Error::Invalid(_) | Error::Limit(_) => Self::internal(message),
        }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::internal(failure.reason())
    }
}
