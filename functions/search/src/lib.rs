//! `search`: hyper-parameters are searched by jobs. Each rung is a join of its trials, whose last one begins the next rung.
//!
//! ```text
//! SearchRequested ─► TrialDue × n ─► job × n ─TrialEnded, tidegate.job.failed─► RungEnded ─► TrialDue × n/eta ─► ...
//!                                                                                  └─► SearchEnded, and a model's version
//! ```
//!
//! All that is known of a search lies in the state table `searches`, so that nothing of it is lost with a host.

mod ending;
mod request;
mod rung;
mod trial;

use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// The table of searches, of their trials, and of the jobs that run them.
const TABLE: &str = "searches";

async fn handle(event: Event) -> Result<(), Failure> {
    match event.kind.as_str() {
        "SearchRequested" => rung::begin(&event),
        "TrialDue" => trial::submit(event.json()?).await,
        "RungEnded" => rung::end(&event).await,
        _ => trial::record(event.json()?).await,
    }
}
