//! What is noted of a request while it is handled, for its record.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::requests::REQUEST_ID;
use crate::effects::EffectCounts;
use crate::records::{Handled, keep};
use crate::sandbox::{Call, Outcome};

/// A request whose invocation goes on.
pub(super) struct Going {
    call: Arc<Call>,
    method: http::Method,
    request_id: Option<http::HeaderValue>,
}

/// How its client sees that it ended.
pub(super) struct Ended {
    pub(super) status: http::StatusCode,
    /// What was committed.
    pub(super) effects: EffectCounts,
    /// Why it failed.
    pub(super) reason: Option<String>,
}

impl Going {
    pub(super) fn new<B>(request: &http::Request<B>, call: Arc<Call>) -> Self {
        Self {
            call,
            method: request.method().clone(),
            request_id: request.headers().get(REQUEST_ID).cloned(),
        }
    }

    /// Keeps how it went.
    pub(super) fn ended(self, outcome: Outcome, ended: Ended) {
        let services = &self.call.services;
        let handled = Handled {
            spec: self.call.spec.clone(),
            event: self.call.event.clone(),
            method: self.method,
            request_id: self.request_id,
            status: ended.status,
            wall: outcome.wall,
            usage: outcome.usage,
            effects: ended.effects,
            reason: ended.reason,
            lines: outcome.logs.into_lines(services.clock.now_ms()),
        };
        keep(services, handled);
    }

    /// Keeps how it went when the body of its answer, which is on its way to the client, has ended too.
    pub(super) fn answered(self, status: http::StatusCode, outcome: oneshot::Receiver<Outcome>) {
        let services = self.call.services.clone();
        services.spawn_leftover(async move {
            let Ok(outcome) = outcome.await else { return };
            let ended = Ended {
                status,
                effects: EffectCounts::default(),
                reason: outcome.result.as_ref().err().map(ToString::to_string),
            };
            self.ended(outcome, ended);
        });
    }
}
