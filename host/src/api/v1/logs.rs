//! Log lines of functions.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::limit;
use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    run: Option<String>,
    function: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let (run, function) = (asked.run.as_deref(), asked.function.as_deref());
    let lines = faces
        .platform
        .records()
        .logs(run, function, limit(asked.limit)?)
        .await?;
    Ok(Json(json!({ "lines": lines })))
}
