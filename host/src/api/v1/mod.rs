//! `/api/v1`: what people, scripts and the command line call.

mod apps;
mod backup;
mod declared;
mod dlq;
mod events;
mod functions;
mod jobs;
mod logs;
pub(in crate::api) mod models;
mod objects;
mod replay;
mod requests;
mod resume;
mod rollouts;
mod runs;
mod versions;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use serde::Deserialize;

use super::Faces;
use super::error::ApiError;

/// Entries of a list when nobody says how many.
const DEFAULT_LIMIT: usize = 100;
/// Entries of a list at most.
const MOST: usize = 10_000;

/// The routes.
pub fn router(faces: Faces) -> Router {
    let bound = usize::try_from(faces.config.gateway.max_body).unwrap_or(usize::MAX);
    let routes = Router::new()
        .route("/functions", get(functions::list))
        .route("/functions/{name}/invoke", post(functions::invoke))
        .route(
            "/functions/{name}/aliases/{alias}",
            put(versions::set_alias).delete(versions::remove_alias),
        )
        .route("/deploy", post(functions::deploy))
        .route("/backup", post(backup::take))
        .route("/declared", get(declared::list))
        .route("/apps/{app}/manifest", get(apps::manifest))
        .route("/versions", get(versions::list))
        .route("/rollback", post(versions::roll_back))
        .route("/events", get(events::follow).post(events::emit))
        .route("/events/{event}/replay", post(replay::replay))
        .route("/runs", get(runs::list))
        .route("/runs/{run}", get(runs::one))
        .route("/runs/{run}/resume", post(resume::resume))
        .route("/dlq", get(dlq::list))
        .route("/dlq/redrive", post(dlq::redrive))
        .route("/dlq/drop", post(dlq::drop))
        .route("/dlq/letters/{function}/{event}", get(dlq::one))
        .route("/logs", get(logs::list))
        .route("/requests", get(requests::list))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{id}", get(jobs::one))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/models", get(models::list).post(models::register))
        .route("/models/{name}", get(models::one))
        .route("/models/{name}/aliases/{alias}", put(rollouts::set_alias))
        .route(
            "/models/{name}/rollout",
            post(rollouts::begin).delete(rollouts::stop),
        )
        .route(
            "/models/{name}/shadow",
            put(rollouts::set_shadow).delete(rollouts::remove_shadow),
        )
        .route("/objects/{bucket}", get(objects::list))
        .route(
            "/objects/{bucket}/{*key}",
            get(objects::read).put(objects::write).delete(objects::delete),
        );
    Router::new()
        .nest("/api/v1", routes)
        .fallback(async |method: http::Method, uri: http::Uri| {
            ApiError::missing(format!("there is no `{method} {}`", uri.path()))
        })
        .method_not_allowed_fallback(async |method: http::Method, uri: http::Uri| {
            ApiError::new(
                http::StatusCode::METHOD_NOT_ALLOWED,
                format!("`{}` does not take `{method}`", uri.path()),
            )
        })
        .layer(DefaultBodyLimit::max(bound))
        .with_state(faces)
}

/// What a list that knows no other question is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    limit: Option<usize>,
}

/// How many entries a list shall have.
fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MOST) => Ok(limit),
        Some(limit) => Err(ApiError::bad(format!(
            "`limit` is {limit}, allowed are 1 to {MOST}"
        ))),
    }
}
