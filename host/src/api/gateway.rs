//! The gateway: functions' routes, `/api/v1`, `/v2`, `/worker/v1`, `/health` and `/metrics` on one port.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::json;
use tidegate_runtime::Routed;
use tidegate_runtime::dispatch::{NoPlace, Place as Invocation};
use tidegate_runtime::manifest::Function;
use tidegate_runtime::sandbox::Body;
use tidegate_runtime::trigger::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::error::ApiError;
use super::outgoing;
use super::traced::{Entered, TRACEPARENT};
use super::{Faces, guard, metrics, objects, oip, scoring, v1, worker};
use crate::recorder::{Place, Record};
use crate::server::{Handler, Incoming, Peer, Unhurried};

/// The places that a request takes: one of all requests, one of its function's, and one of all invocations.
type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit, Invocation);

type Failed = Box<dyn std::error::Error + Send + Sync>;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers every request that comes to the gateway's port.
pub struct Gateway {
    faces: Faces,
    api: axum::Router,
    models: axum::Router,
    scores: axum::Router,
    workers: axum::Router,
    slots: Arc<Semaphore>,
    functions: Mutex<HashMap<String, Arc<Semaphore>>>,
    started: Instant,
}

impl Gateway {
    /// A gateway over the faces' platform.
    pub fn new(faces: Faces) -> Self {
        Self {
            api: v1::router(faces.clone()),
            models: oip::router(faces.clone()),
            scores: scoring::router(faces.clone()),
            workers: worker::router(faces.clone()),
            slots: Arc::new(Semaphore::new(faces.config.gateway.max_requests)),
            functions: Mutex::default(),
            started: Instant::now(),
            faces,
        }
    }

    /// Answers a request to a function that came by another way than the port.
    pub async fn invoke(&self, mut request: Request<Body>) -> Response<Body> {
        let begun = Begun::new(&mut request);
        let answered = async {
            (
                "function",
                self.function(request).await.unwrap_or_else(from_error),
            )
        };
        self.told(begun, answered).await
    }

    /// Answers a request within its trace, and counts it.
    async fn told(
        &self,
        begun: Begun,
        routed: impl Future<Output = (&'static str, Response<Body>)>,
    ) -> Response<Body> {
        let Begun {
            started,
            id,
            entered,
            method,
        } = begun;
        let routed = tidegate_trace::within(entered.context, routed);
        let (face, mut response) = routed.instrument(entered.marks()).await;
        response.headers_mut().insert(REQUEST_ID.clone(), id);
        response
            .headers_mut()
            .entry(TRACEPARENT)
            .or_insert(entered.header());
        let (status, elapsed) = (response.status(), started.elapsed());
        let seconds = elapsed.as_secs_f64();
        self.faces.metrics.answered(face, &method, status, seconds);
        // What workers do with objects is told; their waiting for jobs and their heartbeats are not.
        if matches!(face, "api" | "function" | "inference") || (face == "worker" && method != Method::POST) {
            entered.answered(&self.faces.spans, face, status);
        }
        response
    }

    async fn route(&self, peer: Peer, mut request: Request<Incoming>) -> (&'static str, Response<Body>) {
        request.extensions_mut().insert(Client {
            address: peer.address,
            secure: peer.secure,
        });
        let path = request.uri().path();
        match path.split('/').nth(1).unwrap_or_default() {
            "api" => ("api", self.management(peer, request).await),
            "v2" => ("inference", self.inference(peer, request).await),
            "worker" => ("worker", self.worker(peer, request).await),
            "health" if path == "/health" => ("health", self.health()),
            "metrics" if path == "/metrics" => ("metrics", self.metrics().await),
            _ if scoring::is_scoring(path) && self.faces.platform.route(&request).is_err() => {
                ("inference", self.axum(&self.scores, request).await)
            }
            _ => (
                "function",
                self.function(request).await.unwrap_or_else(from_error),
            ),
        }
    }

    async fn management(&self, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        match self.is_operator(peer, &request, "`/api/v1`") {
            Ok(()) => self.axum(&self.api, request).await,
            Err(error) => from_error(error),
        }
    }

    async fn inference(&self, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        if oip::is_operators(request.uri().path())
            && let Err(error) = self.is_operator(peer, &request, "loading models")
        {
            return from_axum(oip::Refusal(error).into_response());
        }
        self.axum(&self.models, request).await
    }

    fn is_operator(&self, peer: Peer, request: &Request<Incoming>, what: &str) -> Result<(), ApiError> {
        let (config, host) = (&self.faces.config.gateway, request.uri().host());
        guard::management(config, peer, request.headers(), host, what)
    }

    async fn worker(&self, peer: Peer, mut request: Request<Incoming>) -> Response<Body> {
        match self.faces.credentials.caller(peer, request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                self.axum(&self.workers, request).await
            }
            Err(error) => from_error(error),
        }
    }

    async fn axum(&self, router: &axum::Router, request: Request<Incoming>) -> Response<Body> {
        let pause = self.faces.config.gateway.body_timeout;
        let request = request.map(|body| axum::body::Body::new(Unhurried::new(body, pause)));
        let answer: Result<_, std::convert::Infallible> = router.clone().oneshot(request).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        from_axum(answer)
    }

    fn health(&self) -> Response<Body> {
        let stopping = self.faces.stopping.is_cancelled();
        let status = if stopping {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        let body = json!({
            "status": if stopping { "draining" } else { "ok" },
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "functions": self.faces.platform.functions().len(),
            "worker": match (self.faces.workers.is_ready(), self.faces.config.worker.ends_idle()) {
                (true, _) => "ready",
                (false, Some(_)) => "idle",
                (false, None) => "absent",
            },
        });
        answer(status, "application/json", body.to_string())
    }

    async fn metrics(&self) -> Response<Body> {
        self.tell_of_work().await;
        let mut platform = self.faces.platform.render_metrics().await;
        let models = self.faces.workers.statistics().await;
        let triton = self.faces.config.inference.triton_metrics;
        platform += &oip::metrics::render(&models, triton);
        platform += &self.faces.usages.render(triton);
        let text = self.faces.metrics.render(&platform, &self.faces.spans);
        answer(StatusCode::OK, metrics::CONTENT_TYPE, text)
    }

    /// What there is for workers to do. Where the store does not tell, what it told before stays.
    async fn tell_of_work(&self) {
        let Faces {
            metrics,
            workers,
            platform,
            config,
            ..
        } = &self.faces;
        metrics.inferences_are(
            workers.under_way(),
            workers.wanted(config.inference.requests_per_worker),
        );
        match platform.jobs().demand().await {
            Ok(demands) => metrics.jobs_are(demands),
            Err(error) => tracing::warn!(%error, "metrics do not tell of jobs"),
        }
    }

    /// A request to a function: bounded in number and in size, recorded where its manifest asks for it.
    async fn function<B>(&self, request: Request<B>) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Failed>,
    {
        if self.faces.stopping.is_cancelled() {
            return Err(ApiError::busy(
                StatusCode::SERVICE_UNAVAILABLE,
                "the host is being stopped",
            ));
        }
        let bound = self.faces.config.gateway.max_body;
        if objects::announced(request.headers()).is_some_and(|size| size > bound) {
            return Err(ApiError::too_large("the request's body", bound));
        }
        let routed = match self.faces.platform.route(&request) {
            Ok(routed) => routed,
            Err(answer) => return Ok(answer),
        };
        self.rate_allows(&routed.spec)?;
        let places = self.places_for(&routed.spec).await?;
        let (request, exceeded) = self.bounded(request, bound);
        let response = match place_of(&routed.spec, request.uri().path()) {
            Some(place) => self.recorded(routed, place, request, bound).await,
            None => self.faces.platform.http(routed, request).await,
        };
        if exceeded.load(Ordering::Relaxed) {
            return Err(ApiError::too_large("the request's body", bound));
        }
        let pause = self.faces.config.gateway.write_timeout;
        Ok(outgoing::hold(response, places, pause))
    }

    /// Counts a request by the rate of its function.
    fn rate_allows(&self, spec: &Function) -> Result<(), ApiError> {
        let (Err(wait), Some(rate)) = (self.faces.platform.begin_request(spec), &spec.rate) else {
            return Ok(());
        };
        let (function, limit, per, burst) = (&spec.name, rate.limit, rate.per, rate.burst);
        let message = format!(
            "function `{function}` takes {limit} requests in {per:?}, {burst} at once; the next in {wait:?}"
        );
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        Err(ApiError {
            retry_after: Some(seconds.max(1)),
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, message)
        })
    }

    /// Room for one more request, of all and of this function, and for one more invocation; waits for it a little.
    async fn places_for(&self, spec: &Function) -> Result<Places, ApiError> {
        let wait = self.faces.config.gateway.queue_wait;
        let all = take(self.slots.clone(), wait).await.ok_or_else(|| {
            let message = format!(
                "all {} places for requests are taken",
                self.faces.config.gateway.max_requests
            );
            ApiError::busy(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        let own = take(self.slots_of(spec), wait).await.ok_or_else(|| {
            let message = format!(
                "function `{}` has its `concurrency` of {} requests",
                spec.name, spec.limits.concurrency
            );
            ApiError::busy(StatusCode::TOO_MANY_REQUESTS, message)
        })?;
        let place = self.faces.platform.place(spec, wait).await.map_err(|full| {
            let status = match full {
                NoPlace::Host(_) => StatusCode::SERVICE_UNAVAILABLE,
                NoPlace::Tenant { .. } => StatusCode::TOO_MANY_REQUESTS,
            };
            ApiError::busy(status, full.to_string())
        })?;
        Ok((all, own, place))
    }

    fn slots_of(&self, spec: &Function) -> Arc<Semaphore> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        // The bound is part of the name, so that a deployment may change it.
        let name = format!("{}/{}", spec.name, spec.limits.concurrency);
        functions
            .entry(name)
            .or_insert_with(|| Arc::new(Semaphore::new(spec.limits.concurrency as usize)))
            .clone()
    }

    fn bounded<B>(&self, request: Request<B>, bound: u64) -> (Request<Body>, Arc<AtomicBool>)
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Failed>,
    {
        let exceeded = Arc::new(AtomicBool::new(false));
        let (noted, pause) = (exceeded.clone(), self.faces.config.gateway.body_timeout);
        let bound = usize::try_from(bound).unwrap_or(usize::MAX);
        let request = request.map(|body| {
            let body = Limited::new(Unhurried::new(body, pause), bound);
            body.map_err(move |error| {
                noted.fetch_or(error.is::<http_body_util::LengthLimitError>(), Ordering::Relaxed);
                error
            })
            .boxed_unsync()
        });
        (request, exceeded)
    }

    async fn recorded(
        &self,
        routed: Routed,
        place: Place,
        request: Request<Body>,
        bound: u64,
    ) -> Response<Body> {
        let (at, started) = (chrono::Utc::now().timestamp_millis(), Instant::now());
        let (function, path) = (routed.spec.name.clone(), request.uri().path().to_owned());
        let traceparent = header_text(request.headers(), TRACEPARENT).unwrap_or_default();
        let (head, body) = request.into_parts();
        let Ok(asked) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return from_error(ApiError::bad("the request's body ended early"));
        };
        let response = self
            .faces
            .platform
            .http(routed, Request::from_parts(head, full(asked.clone())))
            .await;
        let duration = started.elapsed();
        let (head, body) = response.into_parts();
        let answered = match limited(body, bound).collect().await {
            Ok(answered) => answered.to_bytes(),
            Err(error) => {
                tracing::warn!(function, %error, "a recorded response broke off");
                return from_error(ApiError::new(
                    StatusCode::BAD_GATEWAY,
                    format!("function `{function}`: {error}"),
                ));
            }
        };
        self.faces.recorder.keep(Record {
            at: at.cast_unsigned(),
            function,
            path,
            traceparent,
            status: head.status.as_u16(),
            duration,
            request: asked,
            response: answered.clone(),
            place: Arc::new(place),
        });
        Response::from_parts(head, full(answered))
    }
}

impl Handler for Gateway {
    async fn handle(self: Arc<Self>, peer: Peer, mut request: Request<Incoming>) -> Response<Body> {
        let (path, begun) = (request.uri().path().to_owned(), Begun::new(&mut request));
        let (started, method) = (begun.started, begun.method.clone());
        let response = self.told(begun, self.route(peer, request)).await;
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(%method, path, status, ?elapsed, peer = %peer.address, "answered");
        response
    }
}

/// A request that has an id, and a place in a trace.
struct Begun {
    started: Instant,
    id: HeaderValue,
    entered: Entered,
    method: Method,
}

impl Begun {
    fn new<B>(request: &mut Request<B>) -> Self {
        let (id, entered) = (request_id(request.headers()), Entered::new(request));
        request.headers_mut().insert(TRACEPARENT, entered.header());
        request.headers_mut().insert(REQUEST_ID.clone(), id.clone());
        Self {
            started: Instant::now(),
            id,
            entered,
            method: request.method().clone(),
        }
    }
}

async fn take(slots: Arc<Semaphore>, wait: Duration) -> Option<OwnedSemaphorePermit> {
    match slots.clone().try_acquire_owned() {
        Ok(permit) => Some(permit),
        Err(_) => tokio::time::timeout(wait, slots.acquire_owned()).await.ok()?.ok(),
    }
}

/// Where a request of this function is recorded, if it is.
fn place_of(spec: &Function, path: &str) -> Option<Place> {
    let record = spec.record.as_ref()?;
    let wanted = record.routes.is_empty() || record.routes.iter().any(|route| route == path);
    wanted.then(|| Place::from(record))
}

fn limited(body: Body, bound: u64) -> Body {
    Limited::new(body, usize::try_from(bound).unwrap_or(usize::MAX)).boxed_unsync()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn answer(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn from_error(error: ApiError) -> Response<Body> {
    from_axum(error.into_response())
}

fn from_axum(response: Response<axum::body::Body>) -> Response<Body> {
    response.map(|body| body.map_err(|error| Box::new(error) as _).boxed_unsync())
}

fn header_text(headers: &http::HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// The client's own id, where it is short and plain; a new one otherwise.
fn request_id(headers: &http::HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let given = headers.get(&REQUEST_ID).filter(plain).cloned();
    given
        .or_else(|| HeaderValue::from_str(&ulid::Ulid::new().to_string()).ok())
        .unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &HeaderName, value: &str) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn ids_of_clients_are_kept_where_they_are_sound() {
        assert_eq!(request_id(&with(&REQUEST_ID, "abc-1")), "abc-1");
        assert_ne!(request_id(&with(&REQUEST_ID, "a b")), "a b");
    }
}
