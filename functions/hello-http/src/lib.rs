//! `hello-http`: `GET /hello/<name>` tells what the function `hello` counted.
//!
//! `spin-sdk` exports the handler; what it asks of the host (here `state`) comes from `tidegate-sdk`, and is
//! granted in the manifest like any other function's.

use serde_json::{Value, json};
use spin_sdk::http::{IntoResponse, Json, Request, StatusCode};
use spin_sdk::http_service;
use tidegate_sdk::prelude::*;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    match state::get::<Value>("hello", name).await {
        Ok(Some(counted)) => (StatusCode::OK, Json(counted.value)),
        Ok(None) => {
            let wanted = format!("put a text to `data/hello/{name}.txt` first");
            (
                StatusCode::NOT_FOUND,
                Json(json!({ "error": format!("`{name}` is not known: {wanted}") })),
            )
        }
        Err(failure) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "error": failure.reason() })),
        ),
    }
}
