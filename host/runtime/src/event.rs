//! The event: a CloudEvent 1.0 with the run it belongs to.

use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_trace::Context;

/// A CloudEvent 1.0 on its way through the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique per source; a redelivery carries the same id.
    pub id: String,
    /// Where the event comes from, for example `/objects/data` or `/functions/ingest`.
    pub source: String,
    /// The CloudEvents `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the event is about, for example an object's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub time: u64,
    /// The media type of `data`.
    #[serde(default, rename = "datacontenttype", skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The payload.
    #[serde(
        default,
        rename = "data_base64",
        with = "base64_bytes",
        skip_serializing_if = "Bytes::is_empty"
    )]
    pub data: Bytes,
    /// W3C trace context.
    #[serde(default)]
    pub traceparent: String,
    /// The run: the id of the event that started it all.
    #[serde(default)]
    pub run: String,
    /// The id of the event whose handling emitted this one; none at the root of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The join that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<Join>,
}

/// Names a join: events that were emitted together with one that waits until all of them are handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its id.
    pub id: String,
    /// The event whose handling opened it.
    pub opener: String,
}

impl Event {
    /// Its place in its trace; none where it carries no trace context.
    pub fn context(&self) -> Option<Context> {
        Context::parse(&self.traceparent)
    }

    /// What sets a function off by it, as OpenTelemetry has it (`faas.trigger`).
    pub fn trigger(&self) -> &'static str {
        match self.source.split('/').nth(1) {
            Some("objects") => "datasource",
            Some("schedules") => "timer",
            Some("http") => "http",
            _ => "pubsub",
        }
    }

    /// What a line that the host logs is marked with, while `function` handles the event in a place of the trace.
    pub fn marks(&self, function: &str, context: Option<Context>) -> tracing::Span {
        tracing::info_span!(
            "handling",
            function,
            run_id = self.run,
            trace_id = context.map(|context| context.trace_id()),
            span_id = context.map(|context| context.span_id()),
        )
    }
}

pub(crate) mod base64_bytes {
    use base64::Engine as _;

    use super::{BASE64, Bytes, Deserialize};

    pub(crate) fn serialize<S: serde::Serializer>(data: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(data))
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        BASE64
            .decode(text)
            .map(Bytes::from)
            .map_err(serde::de::Error::custom)
    }
}
