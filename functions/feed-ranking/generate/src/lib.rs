//! `generate`: realistic interactions into `raw/`, on request or by a schedule.

use feed_ranking::generate::{Settings, generate};
use feed_ranking::host::Bucket;
use feed_ranking::messages::GenerateRequested;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

async fn handle(event: Event) -> Result<(), Failure> {
    // A schedule's data tells of the clock, not of what to make.
    let scheduled = event.kind.starts_with("tidegate.schedule");
    let request = if scheduled || event.data.is_empty() || event.data == b"null" {
        GenerateRequested::default()
    } else {
        event.json()?
    };
    let settings = Settings::new(&request, config::variable).or_reject()?;
    let key = generate(&settings, &mut Bucket)?;
    log::info!("wrote {} interactions to `{key}`", settings.interactions);
    Ok(())
}
