//! Which versions of a model answer, in what shares, and how one takes the champion's place.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tidegate_ml::rollout::Policy;

use super::models;
use super::versions::SetAlias;
use crate::api::Faces;
use crate::api::error::{ApiError, Json};
use crate::models::aliases::{self, ChangeError};
use crate::models::{now, rollout};

pub(super) async fn set_alias(
    State(faces): State<Faces>,
    Path((name, alias)): Path<(String, String)>,
    Json(asked): Json<SetAlias>,
) -> Result<Json<Value>, ApiError> {
    let store = faces.platform.store().as_ref();
    aliases::set(store, &name, &alias, &asked.versions, now()).await?;
    tracing::info!(model = name, alias, versions = %asked.versions, "alias of a model set");
    models::one(State(faces), Path(name)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    version: u64,
    #[serde(default)]
    policy: Policy,
}

pub(super) async fn begin(
    State(faces): State<Faces>,
    Path(name): Path<String>,
    Json(asked): Json<Begin>,
) -> Result<Json<Value>, ApiError> {
    let begun = rollout::begin(&faces.platform, &name, asked.version, asked.policy, now()).await?;
    Ok(Json(json!(begun)))
}

pub(super) async fn stop(
    State(faces): State<Faces>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!(rollout::stop(&faces.platform, &name).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetShadow {
    version: u64,
}

pub(super) async fn set_shadow(
    State(faces): State<Faces>,
    Path(name): Path<String>,
    Json(asked): Json<SetShadow>,
) -> Result<Json<Value>, ApiError> {
    aliases::set_shadow(faces.platform.store().as_ref(), &name, Some(asked.version)).await?;
    models::one(State(faces), Path(name)).await
}

pub(super) async fn remove_shadow(
    State(faces): State<Faces>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    aliases::set_shadow(faces.platform.store().as_ref(), &name, None).await?;
    models::one(State(faces), Path(name)).await
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Missing(_) => Self::missing(error.to_string()),
            ChangeError::Refused(_) => Self::bad(error.to_string()),
            ChangeError::Commit(error) => error.into(),
        }
    }
}
