//! Runs: what an event from outside led to.

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{List, limit};
use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

/// Jobs that are looked through for those of a run.
const JOBS: usize = 1000;

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let runs = faces.platform.records().runs(limit(asked.limit)?).await?;
    Ok(Json(json!({ "runs": runs })))
}

pub(super) async fn one(
    State(faces): State<Faces>,
    Path(run): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = faces.platform.records().run(&run).await?;
    let found = found.ok_or_else(|| ApiError::missing(format!("there is no run `{run}`")))?;
    let mut jobs = faces.platform.jobs().list(JOBS).await?;
    jobs.retain(|shown| shown.job.run == run);
    let mut answer = serde_json::to_value(&found).unwrap_or_default();
    answer["jobs"] = json!(jobs);
    Ok(Json(answer))
}
