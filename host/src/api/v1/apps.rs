//! Apps, as somebody would write them down.

use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::api::Faces;
use crate::api::error::{ApiError, Json};

pub(super) async fn manifest(
    State(faces): State<Faces>,
    Path(app): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let manifest = faces.platform.manifest(&app).await?;
    Ok(Json(json!({ "manifest": manifest })))
}
