//! Functions that are declared beside the platform, by Terraform for example.

use axum::extract::State;
use serde_json::{Value, json};

use crate::api::Faces;
use crate::api::error::{ApiError, Json};

pub(super) async fn list(State(faces): State<Faces>) -> Result<Json<Value>, ApiError> {
    let declared = faces.platform.declared().await?;
    Ok(Json(json!({ "declared": declared })))
}
