//! Answers requests, and leaves something else behind too: `/say/TEXT` logs and prints the text, `/emit` emits an event
//! `Do` for the odd guest, `/trap` logs and traps.

use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use tidegate_sdk::prelude::*;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let path = request.uri().path();
    match path {
        "/trap" => {
            log::warn!("about to trap");
            std::process::abort()
        }
        "/emit" => match events::emit("Do", &serde_json::json!({ "do": "nothing" })) {
            Ok(_event) => "emitted".to_owned(),
            Err(failure) => failure.reason().to_owned(),
        },
        _ => {
            let text = path.rsplit('/').next().unwrap_or_default();
            log::info!("logged {text}");
            println!("printed {text}");
            "said".to_owned()
        }
    }
}
