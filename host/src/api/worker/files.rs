//! The objects of jobs: what a worker reads and writes under a lease.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tidegate_runtime::jobs::{CHECKPOINTS, Job};

use crate::api::error::{ApiError, Json};
use crate::api::{Faces, objects};

/// The header that carries a lease's token.
pub const LEASE_HEADER: &str = "x-tidegate-lease";

type Place = Path<(String, String)>;

pub(super) async fn read(
    State(faces): State<Faces>,
    method: Method,
    place: Place,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((bucket, key)) = place;
    match lease_of(&faces, &headers).await? {
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
    match lease_of(faces, headers).await? {
        Some(job) => allow(&job, Access::Write, bucket, key),
        None => Err(denied("without a lease, a worker writes nothing", bucket, key)),
    }
}

/// The job of the lease that a request carries; a lease that is lost is an error, not a lesser right.
async fn lease_of(faces: &Faces, headers: &HeaderMap) -> Result<Option<Job>, ApiError> {
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
