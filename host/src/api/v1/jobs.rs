//! Jobs of the worker pool: what they do, and an end to one.

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Value, json};
use tidegate_runtime::jobs::CancelError;

use super::{List, limit};
use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let jobs = faces.platform.jobs().list(limit(asked.limit)?).await?;
    Ok(Json(json!({ "jobs": jobs })))
}

pub(super) async fn one(State(faces): State<Faces>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let job = faces.platform.jobs().one(&id).await?;
    let job = job.ok_or_else(|| ApiError::missing(format!("there is no job `{id}`")))?;
    Ok(Json(json!(job)))
}

pub(super) async fn cancel(
    State(faces): State<Faces>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let job = faces.platform.jobs().cancel(&id).await?;
    tracing::info!(job = id, "job cancelled");
    Ok(Json(json!(job)))
}

impl From<CancelError> for ApiError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Missing(_) => Self::missing(error.to_string()),
            CancelError::Ended(..) => Self::new(StatusCode::CONFLICT, error.to_string()),
            CancelError::Commit(error) => error.into(),
        }
    }
}
