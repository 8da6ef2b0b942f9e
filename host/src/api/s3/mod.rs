//! The S3 face: buckets, objects, listings and multipart uploads, for any S3 client, path style.
//!
//! Every write goes through the platform, so that triggers fire whoever wrote. Signatures are required.

mod buckets;
mod checks;
mod headers;
mod listing;
mod objects;
mod operations;
mod sums;
mod uploads;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3Result, s3_error};
use tidegate_runtime::dispatch::NoRoom;
use tidegate_runtime::sandbox::Body;
use tidegate_runtime::store::{CommitError, StoreError};
use tracing::Instrument as _;

use super::Faces;
use super::traced::Entered;
use crate::server::{Handler, Incoming, Peer, Unhurried};

pub use buckets::create_bucket;
pub use uploads::give_up_old_uploads;

/// What the operations work on.
#[derive(Clone)]
struct Storage {
    faces: Faces,
}

/// The one pair of keys.
struct Keys {
    access: String,
    secret: SecretKey,
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access {
            return Ok(self.secret.clone());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "the access key `{access_key}` is not known here"
        ))
    }
}

/// Answers every request that comes to the S3 port.
pub struct S3Face {
    service: S3Service,
    faces: Faces,
}

impl S3Face {
    /// A face over the faces' platform, with the configured keys.
    pub fn new(faces: Faces) -> Self {
        let keys = &faces.config.s3;
        let mut builder = S3ServiceBuilder::new(Storage { faces: faces.clone() });
        builder.set_auth(Keys {
            access: keys.access_key.clone(),
            secret: keys.secret_key.clone().into(),
        });
        Self {
            service: builder.build(),
            faces,
        }
    }
}

impl Handler for S3Face {
    async fn handle(self: Arc<Self>, _peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let pause = self.faces.config.gateway.body_timeout;
        let (entered, method) = (Entered::new(&request), request.method().clone());
        let request = request.map(|body| s3s::Body::http_body_unsync(Unhurried::new(body, pause)));
        let calling = tidegate_trace::within(entered.context, self.service.call(request));
        let answered = calling.instrument(entered.marks()).await;
        let response = answered.unwrap_or_else(|error| {
            tracing::warn!(?error, "an S3 request could not be answered");
            let mut response = s3s::HttpResponse::new(s3s::Body::empty());
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            response
        });
        let (status, seconds) = (response.status(), started.elapsed().as_secs_f64());
        self.faces.metrics.answered("s3", &method, status, seconds);
        entered.answered(&self.faces.spans, "s3", status);
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

fn unavailable(error: StoreError) -> S3Error {
    tracing::warn!(%error, "an S3 request failed");
    s3_error!(ServiceUnavailable, "{error}")
}

/// S3's way to say that a client is to come again later.
fn no_room(error: NoRoom) -> S3Error {
    let full = match error {
        NoRoom::Store(error) => return unavailable(error),
        NoRoom::Full(full) => full,
    };
    let mut error = s3_error!(SlowDown, "{full}");
    let later = (header::RETRY_AFTER, HeaderValue::from_static("1"));
    error.set_headers(HeaderMap::from_iter([later]));
    error
}

fn not_committed(error: CommitError) -> S3Error {
    match error {
        CommitError::Store(error) => unavailable(error),
        CommitError::TooLarge { .. } => s3_error!(InvalidRequest, "{error}"),
        conflict => s3_error!(PreconditionFailed, "{conflict}"),
    }
}
