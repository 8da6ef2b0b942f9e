//! Requests that HTTP functions have handled.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::records::RequestFilter;

use super::limit;
use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    function: Option<String>,
    since: Option<u64>,
    #[serde(default)]
    failed: bool,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let filter = RequestFilter {
        function: asked.function,
        since: asked.since,
        failed: asked.failed,
    };
    let limit = limit(asked.limit)?;
    let requests = faces.platform.records().requests(&filter, limit).await?;
    Ok(Json(json!({ "requests": requests })))
}
