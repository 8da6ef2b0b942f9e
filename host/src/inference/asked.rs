//! The span of an inference, and its way to the worker that answers.

use tidegate_trace::{Context, Kind, Span, Spans, now_ns};
use tonic::Request;

/// The metadata that carries the trace context.
const TRACEPARENT: &str = "traceparent";

/// An inference that somebody asked for. One that nobody's trace has a place for leaves no span.
pub(super) struct Asked<'a> {
    model: &'a str,
    since: u64,
    /// Who asks, and the asking.
    place: Option<(Context, Context)>,
}

impl<'a> Asked<'a> {
    /// An inference by whoever this task runs for.
    pub(super) fn new(model: &'a str) -> Self {
        Self {
            model,
            since: now_ns(),
            place: tidegate_trace::current().map(|above| (above, above.at(rand::random()))),
        }
    }

    /// Asks inside of its span.
    pub(super) async fn follow<T>(&self, asking: impl Future<Output = T>) -> T {
        match self.place {
            Some((_above, own)) => tidegate_trace::within(own, asking).await,
            None => asking.await,
        }
    }

    /// Leaves the span; the answer is the version that gave it, or why there is none.
    pub(super) fn answered(self, spans: &Spans, outcome: &'static str, answer: Result<&str, String>) {
        spans.record(|| {
            let (above, own) = self.place?;
            let times = (self.since, now_ns());
            let span = Span::new(own, Some(above), Kind::Client, "ModelInfer", times)
                .with("rpc.system", "grpc")
                .with("rpc.service", "inference.GRPCInferenceService")
                .with("rpc.method", "ModelInfer")
                .with("tidegate.model", self.model);
            Some(match answer {
                Ok(version) => span.with("tidegate.model_version", version),
                Err(error) => span.failed(outcome, &error),
            })
        });
    }
}

/// A request to a worker, with the place in the trace that this task runs inside of.
pub(super) fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(context) = tidegate_trace::current()
        && let Ok(value) = context.to_string().parse()
    {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    request
}
