//! The span of an inference, its way to the worker that answers, and what decides between two versions.

use tidegate_trace::{Context, Kind, Span, Spans, now_ns};
use tonic::Request;

use super::open_inference::infer_parameter::ParameterChoice;
use super::open_inference::{InferParameter, ModelInferRequest};

/// The metadata that carries the trace context.
const TRACEPARENT: &str = "traceparent";
/// The parameter of a request that says what it has in common with others which the same version is to answer.
const ROUTING_KEY: &str = "routing_key";

/// Gives a request a routing key, unless it has one of its own.
pub fn give_key(request: &mut ModelInferRequest, key: String) {
    let parameter_choice = Some(ParameterChoice::StringParam(key));
    let given = request.parameters.entry(ROUTING_KEY.to_owned());
    given.or_insert(InferParameter { parameter_choice });
}

/// Takes out of a request what it says of its version: its key, else its trace; one without either falls where it may.
pub(super) fn take_key(request: &mut ModelInferRequest) -> String {
    let given = request.parameters.remove(ROUTING_KEY);
    match given.and_then(|given| given.parameter_choice) {
        Some(ParameterChoice::StringParam(text)) => text,
        Some(ParameterChoice::Int64Param(number)) => number.to_string(),
        Some(ParameterChoice::Uint64Param(number)) => number.to_string(),
        _ => match tidegate_trace::current() {
            Some(context) => context.trace_id(),
            None => rand::random::<u64>().to_string(),
        },
    }
}

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
