//! Spans as OTLP has them in JSON (`ExportTraceServiceRequest`).

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::span::{Kind, Span, Value};

/// The scope that all spans are of.
const SCOPE: &str = "tidegate";
/// OTLP's number for a span that failed.
const ERROR: u8 = 2;

/// A request with spans of the process that calls itself `service`.
pub(crate) fn request(service: &str, spans: &[Span]) -> Bytes {
    let resource = [
        attribute("service.name", &service.into()),
        attribute("service.version", &env!("CARGO_PKG_VERSION").into()),
        attribute("process.pid", &u64::from(std::process::id()).into()),
    ];
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": SCOPE }, "spans": spans }],
    }] });
    request.to_string().into()
}

fn span(span: &Span) -> Json {
    let mut json = json!({
        "traceId": span.context.trace_id(),
        "spanId": span.context.span_id(),
        "name": span.name,
        "kind": number_of(span.kind),
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": span.attributes.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>(),
    });
    if let Some(parent) = &span.parent {
        json["parentSpanId"] = parent.span_id().into();
    }
    if let Some(failure) = &span.failure {
        json["status"] = json!({ "code": ERROR, "message": failure.message });
        json["events"] = json!([{
            "name": "exception",
            "timeUnixNano": span.end_ns.to_string(),
            "attributes": [
                attribute("exception.type", &failure.kind.as_str().into()),
                attribute("exception.message", &failure.message.as_str().into()),
            ],
        }]);
    }
    json
}

/// 64-bit numbers are texts in protobuf's JSON.
fn attribute(name: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Int(number) => json!({ "intValue": number.to_string() }),
        Value::Float(number) => json!({ "doubleValue": number }),
        Value::Flag(flag) => json!({ "boolValue": flag }),
    };
    json!({ "key": name, "value": value })
}

fn number_of(kind: Kind) -> u8 {
    match kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    }
}
