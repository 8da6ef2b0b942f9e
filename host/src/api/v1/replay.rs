//! Replay: a past event, run again by any version of its function, with nothing left behind.

use axum::extract::{Path, State};
use serde::Deserialize;
use tidegate_runtime::platform::{LIVE, Replay, Replayed, Which};

use crate::api::Faces;
use crate::api::error::{ApiError, Json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    function: Option<String>,
    version: Option<u64>,
    alias: Option<String>,
    /// Whether it may reach other servers.
    #[serde(default)]
    outbound: bool,
}

pub(super) async fn replay(
    State(faces): State<Faces>,
    Path(event): Path<String>,
    Json(asked): Json<Asked>,
) -> Result<Json<Replayed>, ApiError> {
    let which = match (asked.version, asked.alias) {
        (Some(version), None) => Which::Version(version),
        (None, alias) => Which::Alias(alias.unwrap_or_else(|| LIVE.to_owned())),
        (Some(_), Some(_)) => return Err(ApiError::bad("found `version` and `alias`, expected one of them")),
    };
    let replay = Replay {
        event,
        function: asked.function,
        which,
        outbound: asked.outbound,
    };
    Ok(Json(faces.platform.replay(&replay).await?))
}
