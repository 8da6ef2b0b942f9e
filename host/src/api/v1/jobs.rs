//! Jobs of the worker pool.

use axum::extract::State;
use serde_json::{Value, json};

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
