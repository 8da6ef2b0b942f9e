//! `validate`: a dataset in `staging/` is held against its suite; what passes goes to `validated/`.

use feed_ranking::host::{BUCKET, Bucket, Object};
use feed_ranking::messages::DataReady;
use feed_ranking::table::TableError;
use feed_ranking::validate::{Suite, ValidateError, Verdict, validate};
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// A suite here goes before the one that ships with the app.
const SUITE: &str = "suites/interactions.json";
/// Bytes that a suite may have.
const SUITE_BYTES: u64 = 1 << 20;

async fn handle(event: Event) -> Result<(), Failure> {
    let ready: DataReady = event.json()?;
    let suite = suite().await?;
    let open =
        |key: &str| Object::open(BUCKET, key).map_err(|error| TableError::Io(std::io::Error::other(error)));
    match validate(&ready, &suite, open, &mut Bucket).map_err(failure)? {
        Verdict::Validated(validated) => {
            let (rows, quarantined) = (validated.rows, validated.quarantined);
            log::info!(
                "`{}`: {rows} rows passed, {quarantined} in quarantine",
                ready.dataset
            );
            events::emit_about("DataValidated", &ready.dataset, &validated)?;
        }
        Verdict::Rejected(rejected) => {
            log::warn!("`{}` is rejected: {}", ready.dataset, rejected.reasons.join("; "));
            events::emit_about("DataRejected", &ready.dataset, &rejected)?;
        }
    }
    Ok(())
}

async fn suite() -> Result<Suite, Failure> {
    match objects::open_if_exists(BUCKET, SUITE).await? {
        Some(object) => Suite::parse(&object.bytes(SUITE_BYTES).await?).or_reject_with(SUITE),
        None => Suite::shipped().or_reject(),
    }
}

fn failure(error: ValidateError) -> Failure {
    match error {
        ValidateError::Table(error) => error.into(),
        ValidateError::Suite(reason) => Failure::reject(reason),
    }
}
