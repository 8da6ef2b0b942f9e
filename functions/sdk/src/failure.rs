//! How a function fails: what is worth another try, and what is not.

use std::fmt;

use crate::{Error, Failure, Retry};

impl Failure {
    /// Try again after the function's own backoff.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Retry {
            reason: reason.into(),
            delay_ms: None,
        })
    }

    /// Try again after `delay_ms` milliseconds.
    pub fn retry_after(delay_ms: u64, reason: impl Into<String>) -> Self {
        Self::Retry(Retry {
            reason: reason.into(),
            delay_ms: Some(delay_ms),
        })
    }

    /// Never try again: the event goes to the dead letters with this reason.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }

    /// The reason, without the decision.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(retry) => &retry.reason,
            Self::Reject(reason) => reason,
        }
    }
}

impl Error {
    /// The host's words, without the kind of the error.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(text)
            | Self::NotFound(text)
            | Self::Invalid(text)
            | Self::Limit(text)
            | Self::Unavailable(text) => text,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::NotFound(_) => "not found",
            Self::Invalid(_) => "invalid",
            Self::Limit(_) => "limit",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// A host that cannot answer now is worth another try; every other error stays as it is.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = format!("{}: {}", error.kind(), error.message());
        match error {
            Error::Unavailable(_) => Self::retry(reason),
            _ => Self::reject(reason),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::reject(format!("invalid JSON: {error}"))
    }
}

/// An error that passed through `std::io` on its way keeps its meaning.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::reject(error.to_string()),
        }
    }
}

/// Turns any error into a rejection: `text.parse::<u32>().or_reject()?`.
pub trait OrReject<T> {
    /// The value, or a [`Failure::Reject`] with the error's text.
    fn or_reject(self) -> Result<T, Failure>;
    /// The same, with `what: ` before the error's text.
    fn or_reject_with(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrReject<T> for Result<T, E> {
    fn or_reject(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::reject(error.to_string()))
    }

    fn or_reject_with(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::reject(format!("{what}: {error}")))
    }
}

impl<T> OrReject<T> for Option<T> {
    fn or_reject(self) -> Result<T, Failure> {
        self.or_reject_with("a value is missing")
    }

    fn or_reject_with(self, what: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reject(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unavailable_host_is_tried_again() {
        let of = |error: Error| matches!(Failure::from(error), Failure::Retry(_));
        assert!(of(Error::Unavailable("store".into())));
        assert!(!of(Error::Denied("grant".into())));
        assert!(!of(Error::Limit("calls".into())));
    }

    #[test]
    fn an_error_keeps_its_meaning_through_io() {
        let io = std::io::Error::other(Error::Unavailable("the store is away".into()));
        assert!(matches!(Failure::from(io), Failure::Retry(_)));
        let io = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "cut short");
        assert!(matches!(Failure::from(io), Failure::Reject(reason) if reason == "cut short"));
    }
}
