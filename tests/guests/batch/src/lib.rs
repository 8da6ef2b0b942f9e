//! A guest that takes batches: it counts what it took together, and fails with the events that ask for it.

use serde::Deserialize;
use serde_json::json;
use tidegate_sdk::prelude::*;

tidegate_sdk::batch_function!(handle);

/// What one event asks for.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Deed {
    /// Return.
    Nothing,
    /// Count it under the key, and emit an event of type `Counted`.
    Count { key: String },
    /// Fail the first `times` attempts.
    Flaky { times: u32 },
    /// Refuse the batch for good.
    Reject,
    /// Trap.
    Trap,
}

async fn handle(events: Vec<Event>) -> Result<(), Failure> {
    for event in &events {
        match event.json()? {
            Deed::Nothing => {}
            Deed::Count { key } => {
                let found: u64 = state::get("counters", &key).await?.map_or(0, |found| found.value);
                state::put("counters", &key, &(found + 1))?;
                events::emit("Counted", &json!({ "event": event.id }))?;
            }
            Deed::Flaky { times } if event.attempt <= times => {
                return Err(Failure::retry_after(10, "not yet"));
            }
            Deed::Flaky { .. } => {}
            Deed::Reject => return Err(Failure::reject("not this one")),
            Deed::Trap => std::process::abort(),
        }
    }
    log::info!("{} together", events.len());
    Ok(())
}
