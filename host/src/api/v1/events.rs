//! Events: taking them in, and following what happens as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::records::Notice;
use tokio::sync::broadcast::error::RecvError;

use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes of a type or a subject.
const TEXT_BYTES: usize = 1024;
/// Types of the platform's own events begin with this.
const RESERVED: &str = "tidegate.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Emit {
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    #[serde(default)]
    data: Value,
}

pub(super) async fn emit(
    State(faces): State<Faces>,
    Json(asked): Json<Emit>,
) -> Result<Json<Value>, ApiError> {
    check(&asked)?;
    let data = if asked.data.is_null() {
        Bytes::from_static(b"{}")
    } else {
        Bytes::from(asked.data.to_string())
    };
    let json_type = Some("application/json".to_owned());
    let accepted = faces
        .platform
        .emit(&asked.kind, asked.subject, json_type, data)
        .await?;
    Ok(Json(json!({ "id": accepted.event, "run": accepted.run })))
}

fn check(asked: &Emit) -> Result<(), ApiError> {
    let subject = asked.subject.as_deref().unwrap_or_default();
    for (what, text) in [("type", asked.kind.as_str()), ("subject", subject)] {
        if text.len() > TEXT_BYTES || text.chars().any(char::is_control) {
            return Err(ApiError::bad(format!(
                "`{what}` takes up to {TEXT_BYTES} bytes without control characters"
            )));
        }
    }
    if asked.kind.is_empty() {
        return Err(ApiError::bad("`type` is empty"));
    }
    if asked.kind.starts_with(RESERVED) {
        let message = format!(
            "`type` is `{}`, but types that begin with `{RESERVED}` are the platform's own",
            asked.kind
        );
        return Err(ApiError::bad(message));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    #[serde(default)]
    follow: bool,
    run: Option<String>,
}

pub(super) async fn follow(
    State(faces): State<Faces>,
    Query(asked): Query<Follow>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    if !asked.follow {
        return Err(ApiError::bad(
            "events can only be followed: ask with `?follow=true`; what has been is in `/api/v1/runs`",
        ));
    }
    let notices = faces.platform.records().subscribe();
    let (run, stopping) = (asked.run, faces.stopping);
    let stream = futures::stream::unfold(
        (notices, run, stopping),
        |(mut notices, run, stopping)| async move {
            loop {
                let event = match stopping.run_until_cancelled(notices.recv()).await? {
                    Err(RecvError::Closed) => return None,
                    Err(RecvError::Lagged(lost)) => Event::default()
                        .event("lagged")
                        .comment(format!("{lost} notices lost")),
                    Ok(notice) if run.as_ref().is_some_and(|run| *run != notice.run) => continue,
                    Ok(notice) => event_of(&notice),
                };
                return Some((Ok(event), (notices, run, stopping)));
            }
        },
    );
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn event_of(notice: &Notice) -> Event {
    let data = serde_json::to_string(notice).unwrap_or_default();
    Event::default().data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(kind: &str, subject: Option<&str>) -> bool {
        check(&Emit {
            kind: kind.into(),
            subject: subject.map(str::to_owned),
            data: Value::Null,
        })
        .is_ok()
    }

    #[test]
    fn types_are_checked() {
        assert!(checked("GenerateRequested", Some("x")));
        assert!(!checked("", None));
        assert!(!checked("tidegate.object.created", None));
        assert!(!checked("a\nb", None));
        assert!(!checked("a", Some(&"x".repeat(2000))));
    }
}
