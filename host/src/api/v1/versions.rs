//! Versions of functions, the aliases that point at them, and the way back.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::trigger::Split;

use crate::api::Faces;
use crate::api::error::{ApiError, Json, Query};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    function: Option<String>,
}

pub(super) async fn list(
    State(faces): State<Faces>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let versions = faces.platform.versions(asked.function.as_deref()).await?;
    Ok(Json(json!({ "versions": versions })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAlias {
    /// Versions, each with its share in hundredths.
    pub(super) versions: Split,
}

pub(super) async fn set_alias(
    State(faces): State<Faces>,
    Path((function, alias)): Path<(String, String)>,
    Json(asked): Json<SetAlias>,
) -> Result<Json<Value>, ApiError> {
    tracing::info!(function, alias, versions = %asked.versions, "alias set");
    faces
        .platform
        .set_alias(&function, &alias, asked.versions)
        .await?;
    of_function(&faces, &function).await
}

pub(super) async fn remove_alias(
    State(faces): State<Faces>,
    Path((function, alias)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    faces.platform.remove_alias(&function, &alias).await?;
    of_function(&faces, &function).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollBack {
    /// A function or an app.
    name: String,
    /// Whether it is the app, where a function has the same name.
    #[serde(default)]
    app: bool,
}

pub(super) async fn roll_back(
    State(faces): State<Faces>,
    Json(asked): Json<RollBack>,
) -> Result<Json<Value>, ApiError> {
    faces.platform.roll_back(&asked.name, asked.app).await?;
    tracing::info!(name = asked.name, "rolled back");
    Ok(Json(json!({ "functions": faces.platform.functions() })))
}

async fn of_function(faces: &Faces, function: &str) -> Result<Json<Value>, ApiError> {
    let versions = faces.platform.versions(Some(function)).await?;
    Ok(Json(json!({ "versions": versions })))
}
