//! What the span of an attempt tells, and how what it causes comes to stand below it.

use std::sync::Arc;

use tidegate_trace::{Context, Kind, Span};

use super::{Dispatcher, FailureKind, Ran};
use crate::event::Event;
use crate::store::Delivery;

/// How an attempt ended.
pub(super) struct Ended<'a> {
    pub(super) outcome: &'static str,
    /// Effects that were committed.
    pub(super) effects: usize,
    pub(super) failure: Option<(FailureKind, &'a str)>,
}

impl Dispatcher {
    /// The event as the attempt sees it, with the attempt's own place in the trace: what it causes stands below that.
    pub(super) fn seen(&self, delivery: &Delivery) -> Arc<Event> {
        match self.context_of(delivery) {
            None => delivery.event.clone(),
            Some((_caused_by, own)) => Arc::new(Event {
                traceparent: own.to_string(),
                ..Event::clone(&delivery.event)
            }),
        }
    }

    /// What the host's own lines are marked with while it handles a group: its first event's.
    pub(super) fn marks(&self, group: &[Delivery]) -> tracing::Span {
        group.first().map_or_else(tracing::Span::none, |first| {
            let context = self.context_of(first).map(|(_caused_by, own)| own);
            first.event.marks(&self.spec.name, context)
        })
    }

    /// The span of this delivery, as records name it.
    pub(super) fn span_of(&self, delivery: &Delivery) -> Option<String> {
        self.context_of(delivery).map(|(_caused_by, own)| own.span_id())
    }

    /// Leaves the span of an attempt that has ended now, and of its commit.
    pub(super) fn trace(&self, delivery: &Delivery, ran: &Ran, ended: &Ended<'_>) {
        let spans = self.services.spans();
        spans.record(|| self.attempt_span(delivery, ran, ended));
        if ended.outcome == "done" {
            spans.record(|| self.commit_span(delivery, ran, ended));
        }
    }

    /// Where the event stands in its trace, and below it this delivery of it, which a crash may repeat.
    fn context_of(&self, delivery: &Delivery) -> Option<(Context, Context)> {
        let caused_by = delivery.event.context()?;
        let place = delivery.receipt.seq.to_string();
        let own = caused_by.below(&[&self.spec.name, &delivery.event.id, &place]);
        Some((caused_by, own))
    }

    fn attempt_span(&self, delivery: &Delivery, ran: &Ran, ended: &Ended<'_>) -> Option<Span> {
        let (caused_by, own) = self.context_of(delivery)?;
        let (name, event) = (self.spec.name.as_str(), &delivery.event);
        let times = (nanoseconds(ran.started), self.now_after(ran));
        let span = Span::new(
            own,
            Some(caused_by),
            Kind::Consumer,
            format!("process {name}"),
            times,
        )
        .with("messaging.system", "tidegate")
        .with("messaging.operation.name", "process")
        .with("messaging.operation.type", "process")
        .with("messaging.destination.name", name)
        .with("messaging.message.id", event.id.as_str())
        .with("cloudevents.event_id", event.id.as_str())
        .with("cloudevents.event_source", event.source.as_str())
        .with("cloudevents.event_type", event.kind.as_str())
        .with_some("cloudevents.event_subject", event.subject.as_deref())
        .with("faas.name", name)
        .with("faas.version", self.spec.version.to_string())
        .with("faas.trigger", event.trigger())
        .with("faas.coldstart", !ran.usage.warm)
        .with("tidegate.run", event.run.as_str())
        .with("tidegate.attempt", u64::from(delivery.attempt))
        .with("tidegate.outcome", ended.outcome)
        .with("tidegate.effects", ended.effects as u64)
        .with("tidegate.start_ms", ran.usage.start_ms)
        .with("tidegate.cpu_ms", ran.usage.cpu_ms)
        .with("tidegate.peak_memory", ran.usage.peak_memory)
        .with("tidegate.host_calls", ran.usage.host_calls);
        Some(match ended.failure {
            Some((kind, reason)) => span.failed(kind.name(), reason),
            None => span,
        })
    }

    fn commit_span(&self, delivery: &Delivery, ran: &Ran, ended: &Ended<'_>) -> Option<Span> {
        let (_caused_by, own) = self.context_of(delivery)?;
        let times = (ran_until(ran), self.now_after(ran));
        let span = Span::new(own.below(&["commit"]), Some(own), Kind::Internal, "commit", times);
        Some(span.with("tidegate.effects", ended.effects as u64))
    }

    /// Now, and not before the handler's return, which a finer clock measured.
    fn now_after(&self, ran: &Ran) -> u64 {
        nanoseconds(self.services.clock.now_ms()).max(ran_until(ran))
    }
}

fn ran_until(ran: &Ran) -> u64 {
    nanoseconds(ran.started).saturating_add(ran.wall.as_nanos() as u64)
}

fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}
