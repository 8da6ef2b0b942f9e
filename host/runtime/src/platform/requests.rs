//! Requests: an HTTP function's answer, held back until its effects are committed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tracing::Instrument as _;

use super::Platform;
use super::handled::{Ended, Going};
use crate::dispatch::{NoPlace, NotBefore, Place};
use crate::effects::{DONE, Draft, EffectCounts, Ending, Staged, done_key};
use crate::event::Event;
use crate::manifest::Function;
use crate::records::RunHead;
use crate::sandbox::{Answered, Body, Call, Failure, HttpFunction};
use crate::store::{CommitError, StoreError};
use crate::trigger::{Matched, RouteError};

/// The header by which a client names a request that is to have its effects once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that names a request, as a client or the gateway called it.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Bytes of an `Idempotency-Key`.
const LONGEST_KEY: usize = 255;

/// A request whose effects are committed once, however often it is sent.
struct Once(String);

impl Once {
    fn of(headers: &http::HeaderMap) -> Result<Option<Self>, String> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        let bytes = value.as_bytes();
        let plain = (1..=LONGEST_KEY).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        let text = value.to_str().ok().filter(|_| plain);
        text.map(|text| Some(Self(text.to_owned()))).ok_or_else(|| {
            format!(
                "`Idempotency-Key` takes 1 to {LONGEST_KEY} visible ASCII characters, this one has {}",
                bytes.len()
            )
        })
    }

    /// Among the done markers of a function, no event's: those have no `/`.
    fn marker(&self) -> String {
        format!("request/{}", self.0)
    }

    fn repeated(&self) -> http::Response<Body> {
        let message = format!(
            "the request with the `Idempotency-Key` `{}` has had its effects already; they are not applied again",
            self.0
        );
        problem(http::StatusCode::CONFLICT, &message)
    }
}

/// The version of a function that a request goes to.
pub struct Routed {
    /// What its manifest says of it.
    pub spec: Arc<Function>,
    program: Arc<HttpFunction>,
    matched: Matched,
}

impl Routed {
    pub(super) fn new(spec: Arc<Function>, program: Arc<HttpFunction>, matched: Matched) -> Self {
        Self {
            spec,
            program,
            matched,
        }
    }
}

impl Platform {
    /// The version of a function that a request goes to, or what it is answered where there is none.
    #[allow(clippy::result_large_err, reason = "it is the answer, and sent as it is")]
    pub fn route<B>(&self, request: &http::Request<B>) -> Result<Routed, http::Response<Body>> {
        let router = self.services.router();
        let found = router.http(request.method().as_str(), request.uri().path());
        let matched = found.map_err(|error| no_route(request, &error))?;
        let version = router.version(matched.function(), &self.falls_by(request.headers()));
        let routed = version.and_then(|version| self.fleet().routed(matched, version));
        routed.ok_or_else(|| {
            let unavailable = http::StatusCode::SERVICE_UNAVAILABLE;
            problem(unavailable, "the function is being replaced")
        })
    }

    /// Answers a request by the function that it was routed to, which is told of its [`Client`], where the request has one
    /// among its extensions.
    pub async fn http(&self, routed: Routed, mut request: http::Request<Body>) -> http::Response<Body> {
        routed.matched.tell(&mut request);
        let event = self.request_event(&request);
        let marks = event.marks(&routed.spec.name, event.context());
        // In a box, as it is large and is moved by all that it is wrapped in.
        let answering = Box::pin(self.answer(routed, event, request));
        answering.instrument(marks).await
    }

    /// Counts a request by its function's rate; or tells how long it is until one more may come.
    pub fn begin_request(&self, function: &Function) -> Result<(), Duration> {
        let now = self.services.clock.now_ms();
        let begun = self.services.rates.begin(function, now);
        begun.map_err(|NotBefore(time)| {
            self.services.metrics.refused(&function.name, "http", "rate");
            Duration::from_millis(time.saturating_sub(now))
        })
    }

    /// A place for a request to a function; one that has to wait longer is told what is full.
    pub async fn place(&self, function: &Function, wait: Duration) -> Result<Place, NoPlace> {
        let place = tokio::time::timeout(wait, self.services.gate.enter(function)).await;
        place.map_err(|_| self.services.gate.full(&function.tenant))
    }

    /// By what a request falls to a version: one with the same `Idempotency-Key` or `X-Request-Id` to the same.
    fn falls_by(&self, headers: &http::HeaderMap) -> String {
        let named = headers.get(IDEMPOTENCY_KEY).or_else(|| headers.get(REQUEST_ID));
        match named.and_then(|name| name.to_str().ok()) {
            Some(name) => name.to_owned(),
            None => self.services.new_id(),
        }
    }

    /// The event that a request is to what its function writes and emits.
    fn request_event(&self, request: &http::Request<Body>) -> Event {
        let path = request.uri().path().to_owned();
        self.root("/http", "tidegate.http", Some(path), None, Bytes::new())
    }

    /// Runs an HTTP function. One that may write is answered only when its effects are committed.
    async fn answer(
        &self,
        Routed { spec, program, .. }: Routed,
        event: Event,
        request: http::Request<Body>,
    ) -> http::Response<Body> {
        let call = Call::new(self.services.clone(), spec.clone(), Arc::new(event), 1);
        let writes = spec.grants.may_write();
        let once = match Once::of(request.headers()) {
            Ok(once) => once.filter(|_| writes),
            Err(reason) => return problem(http::StatusCode::BAD_REQUEST, &reason),
        };
        match self.was_done(&spec, once.as_ref()).await {
            Ok(None) => {}
            Ok(Some(repeated)) => return repeated,
            Err(error) => return problem(http::StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
        let going = Going::new(&request, call.clone());
        match program.run(&self.sandbox, call.clone(), request).await {
            (Some(response), left) if !writes => {
                going.answered(response.status(), left);
                response
            }
            answered => self.hold_back(answered, &call, going, once.as_ref()).await,
        }
    }

    /// The answer to a request whose effects are committed already.
    async fn was_done(
        &self,
        spec: &Function,
        once: Option<&Once>,
    ) -> Result<Option<http::Response<Body>>, StoreError> {
        let Some(once) = once else { return Ok(None) };
        let marker = done_key(&spec.name, &once.marker());
        let found = self.services.store.get(DONE, &marker).await?;
        Ok(found.map(|_| once.repeated()))
    }

    /// Waits for the end of an invocation and commits what it staged; then there is an answer.
    async fn hold_back(
        &self,
        (response, left): Answered,
        call: &Call,
        going: Going,
        once: Option<&Once>,
    ) -> http::Response<Body> {
        let response = match response {
            Some(response) => whole(response).await,
            None => Err(Failure::Trap("the function ended without an answer".into())),
        };
        let Ok(mut left) = left.await else {
            return failed(&call.spec, &Failure::Trap("the instance is gone".into()));
        };
        let settled = match (
            std::mem::replace(&mut left.result, Ok(Staged::default())),
            response,
        ) {
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
            (Ok(staged), Ok(response)) => self.commit(staged, response, call, once).await,
        };
        let (response, effects, reason) = match settled {
            Ok((response, effects)) => (response, effects, None),
            Err(failure) => {
                let reason = Some(failure.to_string());
                (failed(&call.spec, &failure), EffectCounts::default(), reason)
            }
        };
        let status = response.status();
        going.ended(
            left,
            Ended {
                status,
                effects,
                reason,
            },
        );
        response
    }

    /// Commits what an invocation staged; then its response is the answer, and else that of its twin that was faster.
    async fn commit(
        &self,
        staged: Staged,
        response: http::Response<Body>,
        call: &Call,
        once: Option<&Once>,
    ) -> Result<(http::Response<Body>, EffectCounts), Failure> {
        let effects = staged.counts();
        if staged.is_empty() {
            return Ok((response, effects));
        }
        let mut draft = Draft::new(&self.services);
        draft.staged(staged, &call.spec, &call.event);
        if !draft.unit.enqueue.is_empty() {
            draft.unit.state.push(RunHead::write_for(&call.event));
        }
        if let Some(once) = once {
            draft.ended(&call.spec.name, &once.marker(), Ending::Done);
        }
        match (draft.commit().await, once) {
            (Ok(()), _) => Ok((response, effects)),
            (Err(CommitError::Conflict { table, .. }), Some(once)) if table == DONE => {
                Ok((once.repeated(), EffectCounts::default()))
            }
            (Err(error), _) => Err(Failure::Retry {
                reason: error.to_string(),
                delay: None,
            }),
        }
    }
}

/// A response with all of its body.
async fn whole(response: http::Response<Body>) -> Result<http::Response<Body>, Failure> {
    let (head, body) = response.into_parts();
    let body = body.collect().await;
    let body = body.map_err(|error| Failure::Trap(error.to_string()))?;
    Ok(http::Response::from_parts(head, full(body.to_bytes())))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn problem(status: http::StatusCode, message: &str) -> http::Response<Body> {
    let code = status
        .canonical_reason()
        .unwrap_or("Error")
        .to_lowercase()
        .replace(' ', "_");
    let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
    let mut response = http::Response::new(full(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn no_route<B>(request: &http::Request<B>, error: &RouteError) -> http::Response<Body> {
    let (method, path) = (request.method(), request.uri().path());
    match error {
        RouteError::NotFound => problem(
            http::StatusCode::NOT_FOUND,
            &format!("no function has a route for `{method} {path}`"),
        ),
        RouteError::MethodNotAllowed(allowed) => {
            let allowed = allowed.join(", ");
            let message = format!("`{path}` does not take `{method}`; it takes {allowed}");
            let mut response = problem(http::StatusCode::METHOD_NOT_ALLOWED, &message);
            if let Ok(value) = http::HeaderValue::from_str(&allowed) {
                response.headers_mut().insert(http::header::ALLOW, value);
            }
            response
        }
    }
}

fn failed(spec: &Function, failure: &Failure) -> http::Response<Body> {
    tracing::warn!(function = spec.name, %failure, "request failed");
    let status = match failure {
        failure if failure.is_timeout() => http::StatusCode::GATEWAY_TIMEOUT,
        Failure::Retry { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
        _ => http::StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &format!("function `{}` failed: {failure}", spec.name))
}
