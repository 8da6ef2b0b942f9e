//! The store that the configuration names.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tidegate_cloud::{Buckets, Cloud, Settings};
use tidegate_runtime::store::embedded::{self, Embedded};
use tidegate_runtime::store::{Depots, Refill, Store, StoreError};
use tokio::sync::watch;

use crate::config::{Config, StoreConfig};
use crate::host::make_folder;

/// The embedded store's folder within the data folder.
const FOLDER: &str = "store";

/// An open store.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Tells when it takes no write any more.
    pub failure: watch::Receiver<Option<StoreError>>,
    /// The store, where it is shared with other hosts.
    pub shared: Option<Arc<Cloud>>,
}

/// Opens the store.
pub async fn open(config: &Config) -> Result<Opened> {
    match &config.store {
        StoreConfig::Embedded(objects) => embedded(config, objects.as_deref()).await,
        StoreConfig::Aws(settings) => {
            let settings = settings.as_ref().clone();
            let store = Cloud::open(settings)
                .await
                .context("cannot open the store in AWS")?;
            tracing::info!("state, objects and queues are in AWS, shared with other hosts");
            // It cannot end in doubt: what a service does not do now, it does later.
            let (never, failure) = watch::channel(None);
            tokio::spawn(async move { never.closed().await });
            let store = Arc::new(store);
            Ok(Opened {
                store: store.clone(),
                failure,
                shared: Some(store),
            })
        }
    }
}

/// An empty store in the place that the configuration names, which takes in the back-up with this sum.
pub async fn refill(config: &Config, sum: &str) -> Result<Box<dyn Refill>> {
    match &config.store {
        StoreConfig::Embedded(objects) => {
            let folder = std::path::absolute(&config.data_dir)?;
            make_folder(&folder)?;
            let buckets = buckets(objects.as_deref()).await?;
            let place = folder.join(FOLDER);
            Ok(match depots(&buckets) {
                Some(depots) => embedded::refill_beside(&place, depots)?,
                None => embedded::refill(&place)?,
            })
        }
        StoreConfig::Aws(settings) => Ok(tidegate_cloud::refill(settings.as_ref().clone(), sum).await?),
    }
}

async fn embedded(config: &Config, objects: Option<&Settings>) -> Result<Opened> {
    let folder = config.data_dir.join(FOLDER);
    let (place, buckets) = (folder.clone(), buckets(objects).await?);
    let opening = tokio::task::spawn_blocking(move || match depots(&buckets) {
        Some(depots) => Embedded::open_beside(&place, depots),
        None => Embedded::open(&place),
    });
    let opened = opening
        .await?
        .with_context(|| format!("cannot open the store in `{}`", folder.display()))?;
    Ok(Opened {
        failure: opened.failure(),
        store: Arc::new(opened),
        shared: None,
    })
}

/// Where an embedded store's objects are to lie, if not in its folder.
async fn buckets(objects: Option<&Settings>) -> Result<Option<Buckets>> {
    let Some(settings) = objects else { return Ok(None) };
    let opened = Buckets::open(settings).await;
    let opened = opened.context("cannot use the bucket of `store.objects`")?;
    tracing::info!(bucket = settings.bucket, "the bytes of objects are in S3");
    Ok(Some(opened))
}

fn depots(buckets: &Option<Buckets>) -> Option<&dyn Depots> {
    buckets.as_ref().map(|buckets| buckets as &dyn Depots)
}
