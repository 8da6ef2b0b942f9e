//! Functions: what is deployed, deploying, and calling one by hand.

use std::path::PathBuf;

use axum::extract::{Path, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::Traffic;
use tidegate_runtime::deploy::Deployed;

use crate::api::Faces;
use crate::api::error::{ApiError, Json};

pub(super) async fn list(State(faces): State<Faces>) -> Json<Value> {
    Json(json!({ "functions": faces.platform.functions() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    /// A file on the host's machine.
    manifest: PathBuf,
    /// Whether what is deployed takes events and requests.
    #[serde(default = "yes")]
    traffic: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn deploy(
    State(faces): State<Faces>,
    Json(asked): Json<Deploy>,
) -> Result<Json<Deployed>, ApiError> {
    let traffic = if asked.traffic {
        Traffic::All
    } else {
        Traffic::Unmoved
    };
    let deployed = faces.platform.deploy(&asked.manifest, traffic).await?;
    tracing::info!(
        app = deployed.app,
        functions = deployed.functions.len(),
        "deployed"
    );
    Ok(Json(deployed))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invoke {
    #[serde(default = "nothing")]
    data: Value,
}

fn nothing() -> Value {
    json!({})
}

pub(super) async fn invoke(
    State(faces): State<Faces>,
    Path(name): Path<String>,
    Json(asked): Json<Invoke>,
) -> Result<Json<Value>, ApiError> {
    let accepted = faces
        .platform
        .invoke(&name, Bytes::from(asked.data.to_string()))
        .await?;
    Ok(Json(json!({ "event": accepted.event, "run": accepted.run })))
}
