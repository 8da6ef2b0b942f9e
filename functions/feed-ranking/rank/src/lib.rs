//! `rank`: `POST /predict` ranks items for a user; `GET /rank/health` and `GET /rank/metrics` tell how it stands.
//!
//! A plain `wasi:http` component written with `spin-sdk`. Instances share no memory, so it counts nothing itself:
//! requests and latencies are in the host's `/metrics`.

mod predict;
mod probe;
mod respond;

use respond::Reply;
use spin_sdk::http::{IntoResponse, Method, Request};
use spin_sdk::http_service;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    route(request).await.into_http()
}

async fn route(request: Request) -> Reply {
    let get = *request.method() == Method::GET;
    match request.uri().path() {
        "/predict" if *request.method() == Method::POST => predict::handle(request).await,
        "/predict" => Reply::method_not_allowed("POST"),
        "/rank/health" if get => probe::health().await,
        "/rank/metrics" if get => probe::metrics().await,
        "/rank/health" | "/rank/metrics" => Reply::method_not_allowed("GET"),
        path => Reply::not_found(path),
    }
}
