//! Answers every request with a greeting, and with how many requests this very instance has answered before;
//! `/spin` never ends, `/trap` traps, and `/fetch?URL` asks the URL and tells the status of its answer, or why there is
//! none.

use std::sync::atomic::{AtomicU64, Ordering};

use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;

static ANSWERED: AtomicU64 = AtomicU64::new(0);

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    match request.uri().path() {
        "/spin" => loop {
            std::hint::black_box(());
        },
        "/trap" => std::process::abort(),
        "/fetch" => fetch(request.uri().query().unwrap_or_default()).await,
        _ => {
            let before = ANSWERED.fetch_add(1, Ordering::Relaxed);
            format!("Hello! This instance answered {before} before.\n")
        }
    }
}

async fn fetch(url: &str) -> String {
    match spin_sdk::http::get(url).await {
        Ok(response) => response.status().to_string(),
        Err(error) => format!("{error:?}"),
    }
}
