//! `/worker/v1`: what workers call. They lease jobs, report on them, and touch only what a job names.

mod credentials;
mod files;
mod usage;

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::jobs::{Device, EndError, LeaseLost, Leased, Worker};
use tidegate_runtime::store::StoreError;

use super::Faces;
use super::error::{ApiError, Json};
pub use credentials::{Caller, Credentials};
pub use files::LEASE_HEADER;
pub use usage::Usages;

/// The longest wait for a job that one request may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Bytes of what a worker says of a job's progress.
const MOST_PROGRESS: usize = 256 << 10;

/// The routes.
pub fn router(faces: Faces) -> Router {
    let bound = usize::try_from(faces.config.gateway.max_body).unwrap_or(usize::MAX);
    let routes = Router::new()
        .route("/register", post(register))
        .route("/usage", post(usage::take))
        .route("/lease", post(lease))
        .route("/jobs/{id}/heartbeat", post(heartbeat))
        .route("/jobs/{id}/complete", post(complete))
        .route("/jobs/{id}/fail", post(fail))
        .route("/models", get(files::model).post(files::register))
        .route("/objects/{bucket}", get(files::list))
        .route(
            "/objects/{bucket}/{*key}",
            get(files::read).put(files::write).delete(files::delete),
        );
    Router::new()
        .nest("/worker/v1", routes)
        .fallback(async |method: Method, uri: http::Uri| {
            ApiError::missing(format!("there is no `{method} {}`", uri.path()))
        })
        .layer(DefaultBodyLimit::max(bound))
        .with_state(faces)
}

/// A worker, in its own words.
#[derive(Deserialize)]
struct Described {
    worker: String,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    devices: Vec<Device>,
    /// Where it answers inference requests: a host that took it for gone, or never knew it, learns of it again.
    inference_addr: Option<String>,
}

impl Described {
    fn of(self, caller: Caller) -> Worker {
        let child = caller == Caller::Child;
        // Only this host's machine reaches the others.
        let shared = |address: &String| !child && !is_here(address);
        Worker {
            name: self.worker,
            kinds: self.kinds,
            devices: self.devices,
            address: self.inference_addr.filter(shared),
            child,
        }
    }
}

/// Whether an address is one that every machine calls its own.
fn is_here(address: &str) -> bool {
    let parsed = address.parse::<SocketAddr>();
    parsed.map_or(address.starts_with("localhost:"), |address| {
        address.ip().is_loopback()
    })
}

async fn register(
    State(faces): State<Faces>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<Described>,
) -> Result<Json<Value>, ApiError> {
    let inference = asked.inference_addr.clone();
    let worker = asked.of(caller);
    join(&faces, &worker, inference.as_deref())?;
    faces.platform.jobs().greet(&worker).await?;
    warn_of_plain_text(&faces, &worker.name, inference.as_deref());
    let devices: Vec<&str> = worker.devices.iter().map(|device| device.kind.as_str()).collect();
    let inference = inference.unwrap_or_default();
    tracing::info!(
        worker = worker.name,
        devices = devices.join(","),
        kinds = worker.kinds.join(","),
        inference,
        "worker registered"
    );
    Ok(Json(json!({})))
}

/// Requests to a worker on another machine go there for everybody to read, and others may ask it, unless there is TLS.
fn warn_of_plain_text(faces: &Faces, worker: &str, address: Option<&str>) {
    let Some(address) = address.filter(|_| faces.config.worker.tls.is_none()) else {
        return;
    };
    if !is_here(address) {
        tracing::warn!(
            worker,
            address,
            "worker is asked without TLS; `worker.cert_file`, `worker.key_file` and `worker.ca_file` have both sides show certificates"
        );
    }
}

/// Takes a worker into those that answer inference requests, if it does.
fn join(faces: &Faces, worker: &Worker, address: Option<&str>) -> Result<(), ApiError> {
    match address {
        None => Ok(()),
        Some(address) => {
            let joined = faces.workers.join(&worker.name, address, worker.child);
            joined.map_err(ApiError::bad)
        }
    }
}

#[derive(Deserialize)]
struct Lease {
    #[serde(flatten)]
    worker: Described,
    #[serde(default)]
    wait_ms: u64,
}

async fn lease(
    State(faces): State<Faces>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<Lease>,
) -> Result<Response, ApiError> {
    if faces.stopping.is_cancelled() {
        // It asks again later, and perhaps another host.
        let message = "the host is being stopped";
        return Err(ApiError::busy(StatusCode::SERVICE_UNAVAILABLE, message));
    }
    let wait = Duration::from_millis(asked.wait_ms).min(LONGEST_WAIT);
    let inference = asked.worker.inference_addr.clone();
    let worker = asked.worker.of(caller);
    join(&faces, &worker, inference.as_deref())?;
    let (hand_over, handed) = tokio::sync::oneshot::channel();
    // A task of its own: a job that was claimed is held, or given back when its worker has gone meanwhile.
    tokio::spawn(async move {
        let leased = claim(&faces, &worker, wait).await;
        if let Err(Ok(Some(unheard))) = hand_over.send(leased) {
            let job = &unheard.job.id;
            tracing::info!(
                job,
                worker = worker.name,
                "the worker went away before it got the job"
            );
            if let Err(error) = faces.platform.jobs().take_back(job, &unheard.token).await {
                tracing::warn!(job, %error, "the job waits until its lease runs out");
            }
        }
    });
    let leased = handed.await.map_err(StoreError::new)??;
    let Some(leased) = leased else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let job = &leased.job;
    let answer = json!({
        "job": { "id": job.id, "kind": job.kind, "config": job.config, "attempt": job.attempt, "run": job.run,
            "traceparent": job.context().map(|context| context.to_string()) },
        "lease": { "token": leased.token, "expires_ms": leased.expires.as_millis() as u64 },
    });
    Ok(Json(answer).into_response())
}

async fn claim(faces: &Faces, worker: &Worker, wait: Duration) -> Result<Option<Leased>, StoreError> {
    let leasing = faces.platform.jobs().lease(worker, wait);
    let leased = faces.stopping.run_until_cancelled(leasing).await;
    let leased = leased.transpose()?.flatten();
    if let Some(leased) = &leased {
        let job = &leased.job;
        tracing::info!(
            job = job.id,
            kind = job.kind,
            attempt = job.attempt,
            worker = worker.name,
            "job leased"
        );
        if worker.child {
            faces.credentials.child_holds(&job.id, &leased.token);
        }
    }
    Ok(leased)
}

#[derive(Deserialize)]
struct Heartbeat {
    token: String,
    progress: Option<Value>,
}

async fn heartbeat(
    State(faces): State<Faces>,
    Path(id): Path<String>,
    Json(asked): Json<Heartbeat>,
) -> Result<Json<Value>, ApiError> {
    let size = asked
        .progress
        .as_ref()
        .map_or(0, |progress| progress.to_string().len());
    if size > MOST_PROGRESS {
        return Err(ApiError::too_large("the progress of a job", MOST_PROGRESS as u64));
    }
    let jobs = faces.platform.jobs();
    jobs.heartbeat(&id, &asked.token, asked.progress).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Complete {
    token: String,
    #[serde(default)]
    outputs: Value,
}

async fn complete(
    State(faces): State<Faces>,
    Path(id): Path<String>,
    Json(asked): Json<Complete>,
) -> Result<Json<Value>, ApiError> {
    faces
        .platform
        .jobs()
        .complete(&id, &asked.token, asked.outputs)
        .await?;
    tracing::info!(job = id, "job completed");
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Fail {
    token: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    retry: bool,
}

async fn fail(
    State(faces): State<Faces>,
    Path(id): Path<String>,
    Json(asked): Json<Fail>,
) -> Result<Json<Value>, ApiError> {
    faces
        .platform
        .jobs()
        .fail(&id, &asked.token, &asked.reason, asked.retry)
        .await?;
    tracing::warn!(job = id, reason = asked.reason, retry = asked.retry, "job failed");
    Ok(Json(json!({})))
}

impl From<LeaseLost> for ApiError {
    fn from(lost: LeaseLost) -> Self {
        Self::new(StatusCode::CONFLICT, lost.to_string())
    }
}

impl From<EndError> for ApiError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Lost(lost) => lost.into(),
            EndError::Commit(error) => error.into(),
        }
    }
}
