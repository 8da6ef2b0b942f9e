//! One model: what it takes and gives, and whether it answers.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{Named, Refusal};
use crate::api::Faces;
use crate::api::error::ApiError;
use crate::api::v1::models as registry;
use crate::inference::open_inference::ModelMetadataResponse;
use crate::inference::open_inference::model_metadata_response::TensorMetadata;

pub(super) async fn metadata(
    State(faces): State<Faces>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    let found = described(&faces, &named).await?;
    let ports = |ports: &[TensorMetadata]| ports.iter().map(port).collect::<Vec<_>>();
    Ok(Json(json!({
        "name": found.name,
        "versions": found.versions,
        "platform": found.platform,
        "inputs": ports(&found.inputs),
        "outputs": ports(&found.outputs),
    })))
}

fn port(port: &TensorMetadata) -> Value {
    json!({ "name": port.name, "datatype": port.datatype, "shape": port.shape })
}

pub(super) async fn ready(
    State(faces): State<Faces>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    faces.workers.metadata(&named.reference()?).await?;
    Ok(Json(json!({ "name": named.model, "ready": true })))
}

/// What a model's file says of it, with all of its registered versions.
pub(super) async fn described(faces: &Faces, named: &Named) -> Result<ModelMetadataResponse, ApiError> {
    let mut found = faces.workers.metadata(&named.reference()?).await?;
    found.versions = registry::versions(faces, &found.name).await?;
    Ok(found)
}
