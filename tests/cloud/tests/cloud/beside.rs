//! Embedded stores with their objects in S3.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tidegate_cloud::{Buckets, Settings};
use tidegate_cloud_tests::{Declarer, Servers};
use tidegate_harness::until;
use tidegate_runtime::store::conformance::{self, Load, publication, stage};
use tidegate_runtime::store::embedded::{Embedded, OpenError, refill, refill_beside};
use tidegate_runtime::store::{Store, Unit};

use crate::backup::pour;

const LIMIT: Duration = Duration::from_secs(60);

async fn open(folder: &Path, settings: &Settings) -> Result<Embedded, OpenError> {
    let buckets = Buckets::open(settings).await.expect("the bucket");
    Embedded::open_beside(folder, &buckets)
}

async fn publish(store: &Embedded, bytes: &[u8]) -> Result<()> {
    let staged = stage(store, bytes).await;
    let objects = vec![publication("data", "a/b.txt", Some(staged))];
    Ok(store
        .commit(Unit {
            objects,
            ..Unit::default()
        })
        .await?)
}

async fn read(store: &Embedded) -> Result<Vec<u8>> {
    let object = store.open("data", "a/b.txt").await?.context("the object")?;
    Ok(object.read_at(0, 1 << 20).await?.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_with_its_objects_in_s3_keeps_the_contract() {
    let servers = Servers::start().await.unwrap();
    let made = AtomicUsize::new(0);
    // All of them share a bucket.
    let settings = servers.settings("beside");
    let make = async || {
        made.fetch_add(1, Ordering::Relaxed);
        let folder = TempDir::new().unwrap();
        let store = open(folder.path(), &settings).await.unwrap();
        (
            Arc::new(store) as Arc<dyn Store>,
            Box::new(folder) as conformance::Guard,
        )
    };
    conformance::run_all(make, Load::REMOTE).await;
    assert!(made.into_inner() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_finds_its_objects_in_s3_again_and_opens_with_no_other_place() -> Result<()> {
    let servers = Servers::start().await?;
    let (settings, folder) = (servers.settings("mine"), TempDir::new()?);
    let store = open(folder.path(), &settings).await?;
    publish(&store, b"first").await?;
    publish(&store, b"second").await?;
    stage(&store, b"never published").await;
    assert!(
        !folder.path().join("blobs").exists(),
        "no bytes are in the folder"
    );
    drop(store);

    let refused = open(folder.path(), &servers.settings("other")).await.err();
    let told = refused.context("it opened")?.to_string();
    assert!(
        told.contains("`s3://mine/") && told.contains("`s3://other`"),
        "{told}"
    );
    let refused = Embedded::open(folder.path())
        .err()
        .context("it opened")?
        .to_string();
    assert!(
        refused.contains("`s3://mine/") && refused.contains("its folder"),
        "{refused}"
    );

    let store = open(folder.path(), &settings).await?;
    assert_eq!(read(&store).await?, b"second");
    until("what no object names is swept", LIMIT, async || {
        Ok((Declarer::new(&settings).keys().await?.len() == 1).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_moves_objects_between_a_folder_and_s3() -> Result<()> {
    let servers = Servers::start().await?;
    let (settings, folders) = (servers.settings("moved"), TempDir::new()?);
    let store = open(&folders.path().join("first"), &settings).await?;
    publish(&store, b"bytes").await?;
    let buckets = Buckets::open(&servers.settings("elsewhere")).await?;
    let (in_files, in_s3) = (folders.path().join("files"), folders.path().join("s3"));
    for into in [refill(&in_files)?, refill_beside(&in_s3, &buckets)?] {
        let moment = store.freeze().await?.context("a moment")?;
        pour(moment, into, folders.path()).await?;
    }
    drop(store);
    assert_eq!(read(&Embedded::open(&in_files)?).await?, b"bytes");
    assert_eq!(read(&Embedded::open_beside(&in_s3, &buckets)?).await?, b"bytes");
    Ok(())
}
