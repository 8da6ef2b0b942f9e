//! What the span of a job's attempt tells.

use tidegate_trace::{Context, Kind, Span};

use super::Job;

/// The span of an attempt that a worker made from one time to another, in milliseconds; `failed` says why it failed.
pub(super) fn attempt(
    job: &Job,
    (started, ended): (u64, u64),
    worker: &str,
    failed: Option<&str>,
) -> Option<Span> {
    let times = (started.saturating_mul(1_000_000), ended.saturating_mul(1_000_000));
    let above = Context::parse(&job.traceparent);
    let span = Span::new(
        job.context()?,
        above,
        Kind::Consumer,
        format!("process {}", job.kind),
        times,
    )
    .with("messaging.system", "tidegate")
    .with("messaging.operation.name", "process")
    .with("messaging.operation.type", "process")
    .with("messaging.destination.name", job.kind.as_str())
    .with("messaging.message.id", job.id.as_str())
    .with("tidegate.run", job.run.as_str())
    .with("tidegate.attempt", u64::from(job.attempt))
    .with("tidegate.worker", worker)
    .with("tidegate.queued_ms", started.saturating_sub(job.created));
    Some(match failed {
        Some(reason) => span.failed("job", reason),
        None => span,
    })
}
