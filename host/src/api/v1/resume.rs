//! Resuming a run that is paused, from the steps that failed.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::dispatch::{DeadLetter, LetterFilter};

use super::MOST;
use crate::api::Faces;
use crate::api::error::{ApiError, Json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    /// A function's name or an event's id; every paused step where none is given.
    step: Option<String>,
}

pub(super) async fn resume(
    State(faces): State<Faces>,
    Path(run): Path<String>,
    Json(asked): Json<Resume>,
) -> Result<Json<Value>, ApiError> {
    let letters = faces.platform.dead_letters();
    let filter = LetterFilter {
        run: Some(run.clone()),
        paused: Some(true),
        ..LetterFilter::default()
    };
    let mut paused = letters.list(&filter, MOST).await?;
    if let Some(step) = &asked.step {
        paused.retain(|letter| letter.function == *step || letter.event.id == *step);
    }
    if paused.is_empty() {
        let which = asked.step.map_or(String::new(), |step| format!(" `{step}`"));
        return Err(ApiError::missing(format!(
            "run `{run}` has no paused step{which}; `tidegate dlq list --run {run}` shows its dead letters"
        )));
    }
    let ids: Vec<String> = paused.iter().map(DeadLetter::id).collect();
    let moved = letters.redrive_all(&ids, None).await?;
    Ok(Json(json!({ "resumed": moved.moved, "refused": moved.refused })))
}
