//! The span of a request: below the client's own, where it sent one, and above all that the request causes.

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tidegate_trace::{Context, Kind, Span, Spans, now_ns};

/// The header that carries the trace context.
pub(super) const TRACEPARENT: &str = "traceparent";

/// A request that came in.
pub(super) struct Entered {
    pub(super) context: Context,
    /// The client's own span.
    above: Option<Context>,
    since: u64,
    method: Method,
    path: String,
}

impl Entered {
    /// A request, as its head tells of it.
    pub(super) fn new<B>(request: &http::Request<B>) -> Self {
        let above = sent(request.headers());
        let span = rand::random();
        Self {
            context: above.map_or_else(|| Context::root(rand::random(), span), |above| above.at(span)),
            above,
            since: now_ns(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }
    }

    /// The context as a header.
    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.context.to_string()).unwrap_or(HeaderValue::from_static(""))
    }

    /// What lines that are logged meanwhile are marked with.
    pub(super) fn marks(&self) -> tracing::Span {
        let (trace_id, span_id) = (self.context.trace_id(), self.context.span_id());
        tracing::info_span!("request", trace_id, span_id)
    }

    /// Leaves the span, as the answer's head is there.
    pub(super) fn answered(self, spans: &Spans, face: &'static str, status: StatusCode) {
        spans.record(|| {
            let name = format!("{} {face}", self.method);
            let times = (self.since, now_ns());
            let span = Span::new(self.context, self.above, Kind::Server, name, times)
                .with("http.request.method", self.method.as_str())
                .with("http.response.status_code", u64::from(status.as_u16()))
                .with("url.path", self.path)
                .with("tidegate.face", face);
            let failed = status.is_server_error();
            Some(if failed {
                span.failed(status.as_str(), "the request was not served")
            } else {
                span
            })
        });
    }
}

/// The trace context that a client sent.
pub(super) fn sent(headers: &HeaderMap) -> Option<Context> {
    Context::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}
