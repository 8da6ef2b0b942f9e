//! The models there are, and taking one in and out of service.

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Named, Refusal};
use crate::api::Faces;
use crate::api::error::ApiError;
use crate::api::v1::models as registry;
use crate::inference::open_inference::repository_index_response::ModelIndex;

/// A registered version that a worker has in memory.
const READY: &str = "READY";
/// One that it has not.
const UNAVAILABLE: &str = "UNAVAILABLE";

#[derive(Deserialize, Default)]
struct Asked {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    parameters: Map<String, Value>,
}

impl Asked {
    /// What a body asks for, which may be empty.
    fn read(body: &Bytes) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let asked = serde_json::from_slice(body);
        asked.map_err(|error| ApiError::bad(format!("the request cannot be read: {error}")))
    }
}

pub(super) async fn index(State(faces): State<Faces>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let models = indexed(&faces, Asked::read(&body)?.ready).await?;
    let told = |model: ModelIndex| json!({ "name": model.name, "version": model.version, "state": model.state, "reason": model.reason });
    Ok(Json(models.into_iter().map(told).collect()))
}

pub(super) async fn load(
    State(faces): State<Faces>,
    Path(named): Path<Named>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    only(&[], Asked::read(&body)?.parameters.keys())?;
    faces.workers.load(&named.reference()?).await?;
    Ok(Json(json!({})))
}

pub(super) async fn unload(
    State(faces): State<Faces>,
    Path(named): Path<Named>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    only(&[DEPENDENTS], Asked::read(&body)?.parameters.keys())?;
    faces.workers.unload(&named.reference()?).await?;
    Ok(Json(json!({})))
}

/// What clients send with every unloading; no model here depends on another.
pub(super) const DEPENDENTS: &str = "unload_dependents";

/// Refuses parameters that would change what is loaded: that is for the registry to say.
pub(super) fn only<'a>(
    allowed: &[&str],
    found: impl IntoIterator<Item = &'a String>,
) -> Result<(), ApiError> {
    match found.into_iter().find(|name| !allowed.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let allowed = if allowed.is_empty() {
                "none".to_owned()
            } else {
                format!("`{}`", allowed.join("`, `"))
            };
            Err(ApiError::bad(format!(
                "parameter `{name}` is not known, allowed: {allowed}"
            )))
        }
    }
}

/// Every registered version; `ready` leaves those out that no worker has in memory.
pub(super) async fn indexed(faces: &Faces, ready: bool) -> Result<Vec<ModelIndex>, ApiError> {
    let loaded = faces.workers.loaded().await;
    let mut models = Vec::new();
    for (name, version) in registry::all_versions(faces).await? {
        let withdrawn = faces.workers.is_withdrawn(&name);
        let (state, reason) = match loaded.contains(&(name.clone(), version.clone())) {
            _ if withdrawn => (UNAVAILABLE, "unloaded"),
            true => (READY, ""),
            false => (UNAVAILABLE, "the next request for it loads it"),
        };
        if ready && state != READY {
            continue;
        }
        models.push(ModelIndex {
            name,
            version,
            state: state.to_owned(),
            reason: reason.to_owned(),
        });
    }
    Ok(models)
}
