//! The objects of jobs: what a worker lists, reads and writes under a lease, and the models that a job names and makes.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_runtime::jobs::{CHECKPOINTS, Job};

use crate::api::error::{ApiError, Json, Query};
use crate::api::{Faces, objects};
use crate::models::{Variant, register_variant};

/// The header that carries a lease's token.
pub const LEASE_HEADER: &str = "x-tidegate-lease";
/// The header that carries the pass of a model's file.
const PASS_HEADER: &str = "x-tidegate-pass";

/// Keys of one answer.
const PAGE: usize = 1000;

type Place = Path<(String, String)>;

pub(super) async fn read(
    State(faces): State<Faces>,
    method: Method,
    place: Place,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((bucket, key)) = place;
    let pass = headers.get(PASS_HEADER).and_then(|pass| pass.to_str().ok());
    match leased(&faces, &headers).await? {
        Some(job) => allow(&job, Access::Read, &bucket, &key)?,
        None if faces
            .workers
            .may_read(pass.unwrap_or_default(), &bucket, &key)
            .await? => {}
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

#[derive(Deserialize)]
pub(super) struct List {
    prefix: String,
    after: Option<String>,
}

/// Keys under a prefix that a job reads as a whole.
pub(super) async fn list(
    State(faces): State<Faces>,
    Path(bucket): Path<String>,
    Query(asked): Query<List>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let prefix = &asked.prefix;
    let job = leased(&faces, &headers).await?;
    let job = job.ok_or_else(|| denied("without a lease, a worker lists nothing", &bucket, prefix))?;
    allow(&job, Access::Read, &bucket, prefix)?;
    let store = faces.platform.store();
    if !objects::bucket_exists(store.as_ref(), &bucket).await? {
        return Err(ApiError::missing(format!("there is no bucket `{bucket}`")));
    }
    let page = store.list(&bucket, prefix, asked.after.as_deref(), PAGE).await?;
    let keys: Vec<String> = page.entries.into_iter().map(|meta| meta.key).collect();
    Ok(Json(json!({ "keys": keys })))
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    reference: String,
}

/// The version that a reference stands for, to a job that may read its file.
pub(super) async fn model(
    State(faces): State<Faces>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let found = faces.workers.locate(&wanted.reference).await?;
    let (bucket, key) = (&found.bucket, &found.key);
    let job = leased(&faces, &headers).await?;
    let job = job.ok_or_else(|| denied("without a lease, a worker looks up nothing", bucket, key))?;
    allow(&job, Access::Read, bucket, key)?;
    Ok(Json(
        json!({ "name": found.name, "version": found.version, "bucket": bucket, "key": key }),
    ))
}

/// Registers what a job made of a version that it may read.
pub(super) async fn register(
    State(faces): State<Faces>,
    headers: HeaderMap,
    Json(variant): Json<Variant>,
) -> Result<Json<Value>, ApiError> {
    let reference = format!("{}@{}", variant.name, variant.of);
    let of = faces.workers.locate(&reference).await?;
    let (bucket, key) = (&variant.bucket, &variant.key);
    let job = leased(&faces, &headers).await?;
    let job = job.ok_or_else(|| denied("without a lease, a worker registers nothing", bucket, key))?;
    allow(&job, Access::Read, &of.bucket, &of.key)?;
    allow(&job, Access::Write, bucket, key)?;
    let now = chrono::Utc::now().timestamp_millis().max(0) as u64;
    let version = register_variant(faces.platform.store().as_ref(), variant, &job.id, now).await?;
    tracing::info!(
        model = version.model,
        version = version.version,
        job = job.id,
        "variant registered"
    );
    Ok(Json(json!({ "version": version.version })))
}

pub(super) async fn write(
    State(faces): State<Faces>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let Path((bucket, key)) = place;
    allow_change(&faces, &headers, &bucket, &key).await?;
    let bound = faces.config.gateway.max_object;
    let meta = objects::write(&faces.platform, &bucket, &key, &headers, body, bound).await?;
    Ok(Json(
        json!({ "bucket": bucket, "key": key, "size": meta.size, "etag": meta.etag }),
    ))
}

pub(super) async fn delete(
    State(faces): State<Faces>,
    place: Place,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let Path((bucket, key)) = place;
    allow_change(&faces, &headers, &bucket, &key).await?;
    objects::delete(&faces.platform, &bucket, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn allow_change(faces: &Faces, headers: &HeaderMap, bucket: &str, key: &str) -> Result<(), ApiError> {
    match leased(faces, headers).await? {
        Some(job) => allow(&job, Access::Write, bucket, key),
        None => Err(denied("without a lease, a worker writes nothing", bucket, key)),
    }
}

/// The job of the lease that a request carries; a lease that is lost is an error, not a lesser right.
async fn leased(faces: &Faces, headers: &HeaderMap) -> Result<Option<Job>, ApiError> {
    let Some(token) = headers.get(LEASE_HEADER) else {
        return Ok(None);
    };
    let job = match token.to_str() {
        Ok(token) => faces.platform.jobs().scope(token).await?,
        Err(_) => None,
    };
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
