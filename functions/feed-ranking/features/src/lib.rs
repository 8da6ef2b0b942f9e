//! `features`: validated interactions become a training set and the online features.

use feed_ranking::features::training::{FeaturesReady, MANIFEST, prefix};
use feed_ranking::features::{
    Build, BuildError, Engine, ItemState, Part, Row, Sinks, UserState, code_digest, partitions,
};
use feed_ranking::host::{BUCKET, Bucket, Object};
use feed_ranking::messages::{DataFile, DataValidated};
use feed_ranking::table::{InteractionsReader, Item, ROWS_PER_BATCH, Stage, read_items};
use tidegate_sdk::blocking;
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// The item catalogue, where one was uploaded.
const CATALOG: &str = "catalog/items.parquet";
/// Items of a catalogue, at most.
const CATALOG_ITEMS: usize = 1_000_000;
/// The view of user states.
const USERS: &str = "users";
/// The view of item states.
const ITEMS: &str = "items";

type FeatureBuild = Build<blocking::Writer>;

async fn handle(event: Event) -> Result<(), Failure> {
    let validated: DataValidated = event.json()?;
    let catalog = catalog()?;
    log::info!(
        "{} rows, a catalogue of {} items, code {}",
        validated.rows,
        catalog.len(),
        code_digest()
    );
    let prefix = prefix(&validated.dataset);
    let mut build = Build::new(validated.rows, &catalog, sinks(&prefix)?).map_err(failure)?;
    let mut done = 0;
    for (name, files) in partitions(&validated.files) {
        let (rows, read) = read(&build, &files)?;
        build.partition(name, rows, read).map_err(failure)?;
        done += read;
        log::progress(done, validated.rows, "rows");
    }
    let built = build.finish(&validated.dataset).map_err(failure)?;
    for sink in [built.sinks.train, built.sinks.validation, built.sinks.test] {
        sink.finish()?;
    }
    objects::put_json(BUCKET, &format!("{prefix}{MANIFEST}"), &built.manifest).await?;
    write_online(&built.engine)?;
    let rows = built.manifest.rows;
    log::info!(
        "{rows:?}, {} rows without a click column left out",
        built.unlabelled
    );
    let ready = FeaturesReady {
        dataset: validated.dataset,
        prefix,
        rows,
    };
    events::emit_about("FeaturesReady", &ready.dataset, &ready)?;
    Ok(())
}

fn catalog() -> Result<Vec<Item>, Failure> {
    match Object::open(BUCKET, CATALOG) {
        Ok(object) => Ok(read_items(object, CATALOG_ITEMS)?),
        Err(Error::NotFound(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn sinks(prefix: &str) -> Result<Sinks<blocking::Writer>, Failure> {
    let create = |part: Part| Bucket.create(&format!("{prefix}{}", part.file()));
    Ok(Sinks {
        train: create(Part::Train)?,
        validation: create(Part::Validation)?,
        test: create(Part::Test)?,
    })
}

/// All rows of a partition, and how many were read.
fn read(build: &FeatureBuild, files: &[&DataFile]) -> Result<(Vec<Row>, u64), Failure> {
    let (mut rows, mut read) = (Vec::new(), 0);
    for file in files {
        let mut reader = InteractionsReader::open(Object::open(BUCKET, &file.key)?)?;
        while let Some(batch) = reader.next_batch(ROWS_PER_BATCH)? {
            read += batch.len() as u64;
            build.reduce(&batch, &mut rows);
        }
    }
    Ok((rows, read))
}

/// What `rank` computes features from.
fn write_online(engine: &Engine) -> Result<(), Failure> {
    let users = engine.user_rows();
    let keys: Vec<u64> = users.keys().copied().collect();
    let mut values = Vec::with_capacity(keys.len() * UserState::WIDTH);
    users.values().for_each(|user| user.write_row(&mut values));
    features::write(USERS, UserState::WIDTH, &keys, &values)?;

    let items = engine.item_rows();
    let keys: Vec<u64> = items.keys().copied().collect();
    let mut values = Vec::with_capacity(keys.len() * ItemState::WIDTH);
    items.values().for_each(|item| item.write_row(&mut values));
    Ok(features::write(ITEMS, ItemState::WIDTH, &keys, &values)?)
}

fn failure(error: BuildError) -> Failure {
    match error {
        BuildError::Table(error) => error.into(),
        other => Failure::reject(other.to_string()),
    }
}
