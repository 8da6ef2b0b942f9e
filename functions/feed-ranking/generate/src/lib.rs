//! `generate`: realistic interactions into `raw/`, on request or by a schedule.

use feed_ranking::generate::{Settings, generate};
use feed_ranking::host::Bucket;
use feed_ranking::messages::GenerateRequested;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

async fn handle(event: Event) -> Result<(), Failure> {
    let request = if event.kind == "GenerateRequested" && !event.data.is_empty() {
        event.json()?
    } else {
        GenerateRequested::default()
    };
    let settings = Settings::new(&request, config::variable).or_reject()?;
    let key = generate(&settings, &mut Bucket)?;
    log::info!("wrote {} interactions to `{key}`", settings.interactions);
    Ok(())
}
