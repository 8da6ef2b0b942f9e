//! Objects, for the command line and for scripts without an S3 client.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::limit;
use crate::api::error::{ApiError, Json, Query};
use crate::api::{Faces, objects};

pub(super) async fn read(
    State(faces): State<Faces>,
    method: Method,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
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
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let bound = faces.config.gateway.max_object;
    faces.platform.has_room(&bucket, &key).await?;
    let meta = objects::write(&faces.platform, &bucket, &key, &headers, body, bound).await?;
    Ok(Json(
        json!({ "bucket": bucket, "key": key, "size": meta.size, "etag": meta.etag, "sequencer": meta.sequencer }),
    ))
}

pub(super) async fn delete(
    State(faces): State<Faces>,
    Path((bucket, key)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    objects::delete(&faces.platform, &bucket, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(faces): State<Faces>,
    Path(bucket): Path<String>,
    Query(asked): Query<List>,
) -> Result<Json<Value>, ApiError> {
    let store = faces.platform.store();
    if !objects::bucket_exists(store.as_ref(), &bucket).await? {
        return Err(ApiError::missing(format!("there is no bucket `{bucket}`")));
    }
    let page = store
        .list(
            &bucket,
            &asked.prefix,
            asked.after.as_deref(),
            limit(asked.limit)?,
        )
        .await?;
    Ok(Json(json!({ "objects": page.entries, "next": page.next })))
}
