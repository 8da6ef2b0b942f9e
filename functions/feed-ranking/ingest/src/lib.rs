//! `ingest`: a file in `raw/` becomes the table of interactions in `staging/`, or the item catalogue.

use feed_ranking::host::{Bucket, Object};
use feed_ranking::ingest::{IngestError, Outcome, Settings, ingest};
use feed_ranking::messages::SourceObject;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

async fn handle(event: Event) -> Result<(), Failure> {
    let created: ObjectCreated = event.json()?;
    let settings = Settings::from_variables(config::variable).or_reject()?;
    let object = Object::open(&created.bucket, &created.key)?;
    let source = SourceObject {
        bucket: created.bucket,
        key: created.key,
        etag: object.etag().to_owned(),
    };
    let outcome = ingest(object, &source, &settings, &mut Bucket).map_err(failure)?;
    match outcome {
        Outcome::Interactions(ready) => {
            let (rows, skipped, files) = (ready.rows, ready.skipped, ready.files.len());
            log::info!(
                "`{}`: {rows} rows in {files} files, {skipped} malformed",
                source.key
            );
            events::emit_about("DataReady", &ready.dataset, &ready)?;
        }
        Outcome::Catalog(ready) => {
            log::info!(
                "`{}`: a catalogue of {} items, {} malformed",
                source.key,
                ready.rows,
                ready.skipped
            );
            events::emit_about("CatalogReady", &ready.key, &ready)?;
        }
    }
    Ok(())
}

fn failure(error: IngestError) -> Failure {
    match error {
        IngestError::Io(error) => error.into(),
        IngestError::Rejected(reason) => Failure::reject(reason),
    }
}
