//! `/worker/v1`: what workers call. They lease jobs, report on them, and touch only what a job names.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::jobs::{CHECKPOINTS, EndError, Job, Jobs, LeaseLost, Leased};
use tidegate_runtime::store::StoreError;

use super::error::{ApiError, Json};
use super::{Faces, guard, objects};

/// The header that carries a lease's token.
pub const LEASE_HEADER: &str = "x-tidegate-lease";
/// The longest wait for a job that one request may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Leases that the child worker may hold at one time, those that ended not yet forgotten included.
const CHILD_LEASES: usize = 64;

/// Who calls `/worker/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The process that this host started.
    Child,
    /// A worker from elsewhere, with the configured token.
    Other,
}

/// What workers present, and what the child worker holds: when its process ends, its jobs need not wait for
/// their leases to run out.
pub struct Credentials {
    child: String,
    other: Option<String>,
    held: Mutex<VecDeque<(String, String)>>,
}

impl Credentials {
    /// A new token for the child; `other` is the configured one.
    pub fn new(other: Option<String>) -> Self {
        let child = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        Self {
            child,
            other,
            held: Mutex::default(),
        }
    }

    /// What the child is given.
    pub fn child_token(&self) -> &str {
        &self.child
    }

    /// Who sends a request.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let known = std::iter::once(self.child.as_str()).chain(self.other.as_deref());
        match guard::bearer_among(known, headers) {
            Some(token) if token == self.child => Ok(Caller::Child),
            Some(_) => Ok(Caller::Other),
            None => {
                let message = "`/worker/v1` takes `Authorization: Bearer` with the worker token";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, message))
            }
        }
    }

    fn child_holds(&self, job: &str, token: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.truncate(CHILD_LEASES - 1);
        held.push_front((job.to_owned(), token.to_owned()));
    }

    /// Gives the child's jobs back, as its process has ended.
    pub async fn child_ended(&self, jobs: &Jobs) {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        for (job, token) in held {
            match jobs.fail(&job, &token, "the worker process ended", true).await {
                Ok(()) => tracing::info!(job, "job given back"),
                Err(EndError::Lost(_)) => {}
                Err(error) => tracing::warn!(job, %error, "the job waits until its lease runs out"),
            }
        }
    }
}

/// The routes.
pub fn router(faces: Faces) -> Router {
    let bound = usize::try_from(faces.config.gateway.max_body).unwrap_or(usize::MAX);
    let routes = Router::new()
        .route("/register", post(register))
        .route("/lease", post(lease))
        .route("/jobs/{id}/heartbeat", post(heartbeat))
        .route("/jobs/{id}/complete", post(complete))
        .route("/jobs/{id}/fail", post(fail))
        .route("/objects/{bucket}/{*key}", get(read).put(write).delete(delete));
    Router::new()
        .nest("/worker/v1", routes)
        .fallback(async |method: Method, uri: http::Uri| {
            ApiError::missing(format!("there is no `{method} {}`", uri.path()))
        })
        .layer(DefaultBodyLimit::max(bound))
        .with_state(faces)
}

#[derive(Deserialize)]
struct Register {
    worker: String,
    #[serde(default)]
    devices: Vec<Value>,
    #[serde(default)]
    kinds: Vec<String>,
    inference_addr: Option<String>,
}

async fn register(State(faces): State<Faces>, Json(asked): Json<Register>) -> Result<Json<Value>, ApiError> {
    if let Some(address) = &asked.inference_addr {
        faces.workers.join(address).map_err(ApiError::bad)?;
    }
    let devices: Vec<&str> = asked
        .devices
        .iter()
        .filter_map(|device| device["kind"].as_str())
        .collect();
    let (kinds, inference) = (asked.kinds.join(","), asked.inference_addr.unwrap_or_default());
    tracing::info!(
        worker = asked.worker,
        devices = devices.join(","),
        kinds,
        inference,
        "worker registered"
    );
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Lease {
    worker: String,
    kinds: Vec<String>,
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
    let (hand_over, handed) = tokio::sync::oneshot::channel();
    // A task of its own: a job that was claimed is held, or given back when its worker has gone meanwhile.
    tokio::spawn(async move {
        let leased = claim(&faces, caller, &asked).await;
        if let Err(Ok(Some(unheard))) = hand_over.send(leased) {
            let (job, worker) = (&unheard.job.id, &asked.worker);
            tracing::info!(job, worker, "the worker went away before it got the job");
            if let Err(error) = faces.platform.jobs().take_back(job, &unheard.token).await {
                tracing::warn!(job, %error, "the job is lost to this worker until the next start");
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

async fn claim(faces: &Faces, caller: Caller, asked: &Lease) -> Result<Option<Leased>, StoreError> {
    let wait = Duration::from_millis(asked.wait_ms).min(LONGEST_WAIT);
    let leasing = faces.platform.jobs().lease(&asked.worker, &asked.kinds, wait);
    let leased = faces.stopping.run_until_cancelled(leasing).await;
    let leased = leased.transpose()?.flatten();
    if let Some(leased) = &leased {
        let job = &leased.job;
        tracing::info!(
            job = job.id,
            kind = job.kind,
            attempt = job.attempt,
            worker = asked.worker,
            "job leased"
        );
        if caller == Caller::Child {
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
    let cancel = faces
        .platform
        .jobs()
        .heartbeat(&id, &asked.token, asked.progress)?;
    Ok(Json(json!({ "cancel": cancel })))
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

type Place = Path<(String, String)>;

async fn read(
    State(faces): State<Faces>,
    method: Method,
    place: Place,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((bucket, key)) = place;
    match lease_of(&faces, &headers)? {
        Some(job) => allow(&job, Access::Read, &bucket, &key)?,
        None if faces.workers.may_read(&bucket, &key) => {}
        None => {
            return Err(denied(
                "without a lease, a worker may read the model files it was told to load",
                &bucket,
                &key,
            ));
        }
    }
    objects::read(
        faces.platform.store().as_ref(),
        &bucket,
        &key,
        &headers,
        method != Method::HEAD,
    )
    .await
}

async fn write(
    State(faces): State<Faces>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let Path((bucket, key)) = place;
    allow_change(&faces, &headers, &bucket, &key)?;
    let bound = faces.config.gateway.max_object;
    let meta = objects::write(&faces.platform, &bucket, &key, &headers, body, bound).await?;
    Ok(Json(
        json!({ "bucket": bucket, "key": key, "size": meta.size, "etag": meta.etag }),
    ))
}

async fn delete(
    State(faces): State<Faces>,
    place: Place,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let Path((bucket, key)) = place;
    allow_change(&faces, &headers, &bucket, &key)?;
    objects::delete(&faces.platform, &bucket, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn allow_change(faces: &Faces, headers: &HeaderMap, bucket: &str, key: &str) -> Result<(), ApiError> {
    match lease_of(faces, headers)? {
        Some(job) => allow(&job, Access::Write, bucket, key),
        None => Err(denied("without a lease, a worker writes nothing", bucket, key)),
    }
}

/// The job of the lease that a request carries; a lease that is lost is an error, not a lesser right.
fn lease_of(faces: &Faces, headers: &HeaderMap) -> Result<Option<Job>, ApiError> {
    let Some(token) = headers.get(LEASE_HEADER) else {
        return Ok(None);
    };
    let job = token
        .to_str()
        .ok()
        .and_then(|token| faces.platform.jobs().scope(token));
    let lost = || {
        ApiError::new(
            StatusCode::CONFLICT,
            format!("the lease of `{LEASE_HEADER}` is lost"),
        )
    };
    job.map(Some).ok_or_else(lost)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn allow(job: &Job, access: Access, bucket: &str, key: &str) -> Result<(), ApiError> {
    let place = format!("{bucket}/{key}");
    let reads = job.reads.iter().filter(|_| access == Access::Read);
    let own = bucket == CHECKPOINTS && key.starts_with(&job.checkpoints());
    if own
        || reads
            .chain(&job.writes)
            .any(|prefix| place.starts_with(prefix.as_str()))
    {
        return Ok(());
    }
    Err(denied(
        &format!(
            "job `{}` reads {:?} and writes {:?}",
            job.id, job.reads, job.writes
        ),
        bucket,
        key,
    ))
}

fn denied(rule: &str, bucket: &str, key: &str) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        format!("`{bucket}/{key}` is not allowed: {rule}"),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let value = json!({
            "id": "J1", "kind": "train", "config": {}, "reads": ["data/features/d1/"], "writes": ["models/ranker/"],
            "emits": "E", "run": "R", "parent": "P", "traceparent": "", "phase": "running", "attempt": 1,
            "created": 0, "finished": null, "detail": null,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_job_touches_only_what_it_names() {
        let allowed = |access, bucket, key| allow(&job(), access, bucket, key).is_ok();
        assert!(allowed(Access::Read, "data", "features/d1/train.parquet"));
        assert!(!allowed(Access::Write, "data", "features/d1/train.parquet"));
        assert!(!allowed(Access::Read, "data", "features/d10/train.parquet"));
        assert!(!allowed(Access::Read, "data", "features/d1"));
        assert!(allowed(Access::Read, "models", "ranker/x/model.onnx"));
        assert!(allowed(Access::Write, "models", "ranker/x/model.onnx"));
        assert!(allowed(Access::Write, "tidegate-jobs", "J1/checkpoint"));
        assert!(!allowed(Access::Write, "tidegate-jobs", "J10/checkpoint"));
    }
}
