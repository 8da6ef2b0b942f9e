//! The server as a whole: its name, and whether it is well.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::Faces;

/// What of Triton's additions to the protocol is there.
pub(super) const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_repository"];
/// The server's name.
pub(super) const NAME: &str = "tidegate";

pub(super) async fn metadata() -> Json<Value> {
    Json(json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

pub(super) async fn ready(State(faces): State<Faces>) -> (StatusCode, Json<Value>) {
    let ready = is_ready(&faces);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready })))
}

/// Whether a worker is there, or is started when it is wanted, and the host goes on.
pub(in crate::api) fn is_ready(faces: &Faces) -> bool {
    let worker = faces.workers.is_ready() || faces.config.worker.ends_idle().is_some();
    worker && !faces.stopping.is_cancelled()
}
