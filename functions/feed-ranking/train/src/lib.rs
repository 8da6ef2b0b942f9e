//! `train`: a training set becomes a job for the worker; the job's end becomes `ModelTrained`.

use feed_ranking::features::training::{BUCKET, FeaturesReady, MANIFEST, Manifest};
use feed_ranking::train::{EMITS, KIND, Settings, job};
use tidegate_sdk::jobs::Job;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// Bytes of `dataset.json`, at most.
const MANIFEST_BYTES: u64 = 1 << 20;

async fn handle(event: Event) -> Result<(), Failure> {
    let ready: FeaturesReady = event.json()?;
    let settings = Settings::from_variables(config::variable).or_reject()?;
    let manifest: Manifest =
        objects::read_json(BUCKET, &format!("{}{MANIFEST}", ready.prefix), MANIFEST_BYTES).await?;
    let config = job(&ready.prefix, &manifest.digest, settings)?;
    let id = Job::new(KIND, EMITS)
        .reads(config.dataset.grant())
        .writes(config.output.grant())
        .submit(&config)?;
    let (rows, to) = (manifest.rows.train, config.output.grant());
    log::info!("job `{id}` of kind `{KIND}` trains on {rows} rows and writes to `{to}`");
    Ok(())
}
