//! `hello-http`: `GET /hello/<name>` tells what the function `hello` counted, `POST /hello/<name>` greets.
//!
//! `spin-sdk` exports the handler; what it asks of the host (here `state`) comes from `tidegate-sdk`, and is
//! granted in the manifest like any other function's.

use serde_json::{Value, json};
use spin_sdk::http::{IntoResponse, Json, Method, Request, StatusCode};
use spin_sdk::http_service;
use tidegate_sdk::prelude::*;

/// The table of what `hello` counted.
const COUNTED: &str = "hello";
/// The table of greetings.
const GREETED: &str = "greeted";

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let answer = match request.method() == Method::POST {
        true => greet(name).await.map(Some),
        false => state::get(COUNTED, name)
            .await
            .map(|found| found.map(|counted| counted.value)),
    };
    match answer {
        Ok(Some(value)) => (StatusCode::OK, Json(value)),
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

/// Counts a greeting. It is committed before the answer is sent, with an `Idempotency-Key` once for each key.
async fn greet(name: &str) -> Result<Value, Failure> {
    let before = state::get::<u64>(GREETED, name).await?;
    let greetings = before.as_ref().map_or(1, |before| before.value + 1);
    match before {
        None => state::put_if_absent(GREETED, name, &greetings)?,
        Some(before) => state::put_if_version(GREETED, name, &greetings, before.version)?,
    }
    Ok(json!({ "name": name, "greetings": greetings }))
}
