//! Traces: where a piece of work stands in its [`Context`], the [`Span`] that tells of it, and the way of spans
//! to an OpenTelemetry collector.
//!
//! Host and worker share this package, so that one trace goes from an upload to the model that came of it. Spans
//! are data: nothing waits for them, and without a collector none is made.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod context;
mod export;
mod otlp;
mod span;

pub use context::{Context, current, within};
pub use export::{Endpoint, Exporter, Spans, Tuning};
pub use span::{Kind, Span, Value};

/// Nanoseconds since the Unix epoch, by this machine's clock.
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
