//! The platform's own function: it emits the event of a join whose parts are all handled.
//!
//! It runs in a dispatcher as every function does, and so it is exactly once, whatever fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Dispatcher, Handler};
use crate::effects::{Emission, JOIN, JOINS, Staged};
use crate::manifest::Function;
use crate::sandbox::{Call, Failure, Outcome, Usage};
use crate::services::Services;
use crate::store::{Condition, StateWrite};

/// What completes joins.
pub fn completes_joins(services: &Arc<Services>) -> Arc<Dispatcher> {
    let function = Function::of_platform(JOIN);
    Dispatcher::new(services, Arc::new(function), Arc::new(Completion))
}

struct Completion;

#[async_trait]
impl Handler for Completion {
    async fn run(&self, call: Arc<Call>) -> Outcome {
        Outcome {
            result: complete(&call).await,
            logs: call.take_logs(),
            wall: Duration::ZERO,
            usage: Usage::default(),
        }
    }
}

/// Takes the event of the join out of its table and emits it.
async fn complete(call: &Call) -> Result<Staged, Failure> {
    let id = &call.event.id;
    let row = call.services.store.get(JOINS, id).await;
    let row = row.map_err(|error| again(&call.unavailable(error)))?;
    let row = row.ok_or_else(|| Failure::Reject(format!("join `{id}` is not open")))?;
    let then: Emission = serde_json::from_slice(&row.value)
        .map_err(|error| Failure::Reject(format!("the event of join `{id}` cannot be read: {error}")))?;
    let mut effects = call.effects();
    let taken = effects.write(StateWrite {
        table: JOINS.into(),
        key: id.clone(),
        value: None,
        condition: Condition::Version(row.version),
    });
    taken
        .and_then(|()| effects.emit(then))
        .map_err(|error| again(&error))?;
    Ok(effects.take())
}

fn again(error: &dyn std::error::Error) -> Failure {
    Failure::Retry {
        reason: error.to_string(),
        delay: None,
    }
}
