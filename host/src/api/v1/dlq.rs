//! Dead letters: finding them, sending them through again, dropping them; and resuming runs that are paused.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::dispatch::{DeadLetter, LetterFilter};

use super::{MOST, limit};
use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

/// Letters a second at most, and at least.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

/// Which letters.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct List {
    function: Option<String>,
    reason: Option<String>,
    run: Option<String>,
    since: Option<u64>,
    until: Option<u64>,
    paused: Option<bool>,
    limit: Option<usize>,
}

impl List {
    fn filter(self) -> LetterFilter {
        LetterFilter {
            function: self.function,
            reason: self.reason,
            run: self.run,
            since: self.since,
            until: self.until,
            paused: self.paused,
        }
    }
}

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit(asked.limit)?;
    let letters = faces.platform.dead_letters().list(&asked.filter(), limit).await?;
    let letters: Vec<Value> = letters.iter().map(in_short).collect();
    Ok(Json(json!({ "letters": letters })))
}

/// A letter without its data and its log lines.
fn in_short(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id(),
        "function": letter.function,
        "reason": letter.reason,
        "kind": letter.kind,
        "attempts": letter.attempts,
        "at": letter.at,
        "paused": letter.paused,
        "run": letter.event.run,
        "event": letter.event.id,
        "type": letter.event.kind,
        "subject": letter.event.subject,
        "traceparent": letter.event.traceparent,
    })
}

pub(super) async fn one(
    State(faces): State<Faces>,
    Path((function, event)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let id = format!("{function}/{event}");
    let letter = faces.platform.dead_letters().get(&id).await?;
    let letter = letter.ok_or_else(|| ApiError::missing(format!("there is no dead letter `{id}`")))?;
    let mut answer = serde_json::to_value(&letter).unwrap_or_default();
    answer["id"] = id.into();
    Ok(Json(answer))
}

/// What to do something with: letters by id, or all that fit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    ids: Option<Vec<String>>,
    filter: Option<List>,
    /// Letters a second.
    rate: Option<f64>,
}

impl Selection {
    async fn ids(self, faces: &Faces) -> Result<Vec<String>, ApiError> {
        match (self.ids, self.filter) {
            (Some(ids), None) if ids.len() <= MOST => Ok(ids),
            (Some(ids), None) => Err(ApiError::bad(format!(
                "found {} ids, at most {MOST} are allowed",
                ids.len()
            ))),
            (None, Some(list)) => {
                let limit = limit(list.limit.or(Some(MOST)))?;
                let mut letters = faces.platform.dead_letters().list(&list.filter(), limit).await?;
                // The oldest goes first.
                letters.reverse();
                Ok(letters.iter().map(DeadLetter::id).collect())
            }
            _ => Err(ApiError::bad("expected either `ids` or `filter`")),
        }
    }
}

pub(super) async fn redrive(
    State(faces): State<Faces>,
    Json(asked): Json<Selection>,
) -> Result<Json<Value>, ApiError> {
    let rate = asked.rate;
    if let Some(rate) = rate
        && !RATES.contains(&rate)
    {
        let (least, most) = (RATES.start(), RATES.end());
        return Err(ApiError::bad(format!(
            "`rate` is {rate}, allowed are {least} to {most} letters a second"
        )));
    }
    let ids = asked.ids(&faces).await?;
    let moved = faces.platform.dead_letters().redrive_all(&ids, rate).await?;
    Ok(Json(json!({ "redriven": moved.moved, "refused": moved.refused })))
}

pub(super) async fn drop(
    State(faces): State<Faces>,
    Json(asked): Json<Selection>,
) -> Result<Json<Value>, ApiError> {
    if asked.rate.is_some() {
        return Err(ApiError::bad("`rate` is for a redrive; a drop happens at once"));
    }
    let ids = asked.ids(&faces).await?;
    let moved = faces.platform.dead_letters().drop_all(&ids).await?;
    Ok(Json(json!({ "dropped": moved.moved, "refused": moved.refused })))
}
