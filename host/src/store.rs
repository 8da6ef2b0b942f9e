//! The store that the configuration names.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tidegate_cloud::Cloud;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Store, StoreError};
use tokio::sync::watch;

use crate::config::{Config, StoreConfig};

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
        StoreConfig::Embedded => embedded(config).await,
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

async fn embedded(config: &Config) -> Result<Opened> {
    let folder = config.data_dir.join("store");
    let place = folder.clone();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&place)).await?;
    let opened = opened.with_context(|| format!("cannot open the store in `{}`", folder.display()))?;
    Ok(Opened {
        failure: opened.failure(),
        store: Arc::new(opened),
        shared: None,
    })
}
