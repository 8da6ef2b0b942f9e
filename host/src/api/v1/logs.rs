//! Log lines of functions.

use axum::extract::State;
use serde::Deserialize;
use tidegate_runtime::records::{FoundLines, LogFilter};

use super::limit;
use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    run: Option<String>,
    function: Option<String>,
    since: Option<u64>,
    grep: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<FoundLines>, ApiError> {
    let filter = LogFilter {
        run: asked.run,
        function: asked.function,
        since: asked.since,
        text: asked.grep,
    };
    let limit = limit(asked.limit)?;
    Ok(Json(faces.platform.records().logs(&filter, limit).await?))
}
