//! Objects in S3 of a store that is embedded otherwise: its depot is what lies under a prefix of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_runtime::store::{Depot, Depots, Keep, ObjectMeta, ObjectReader, StageWriter, StoreError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::bucket::Bucket;
use crate::calls::Calls;
use crate::clients;
use crate::failure;
use crate::opening::OpenError;
use crate::settings::Settings;

/// How long a blob that is replaced stays for whoever reads it.
const GRACE: Duration = Duration::from_secs(3600);
/// Blobs that wait to be removed at most; what is beyond is removed at the next start.
const LEAVING: usize = 100_000;

/// A bucket in which stores have depots.
pub struct Buckets {
    bucket: Bucket,
    runtime: Handle,
}

impl Buckets {
    /// The bucket of these settings, which is made where it is missing. Only what they say of S3 is looked at.
    pub async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let bucket = Bucket {
            s3: clients::of_objects(settings, &Calls::default()).await,
            name: settings.bucket.clone(),
            prefix: String::new(),
        };
        let prepared = bucket.prepare().await;
        prepared.map_err(|source| OpenError::Bucket {
            bucket: bucket.name.clone(),
            source,
        })?;
        Ok(Self {
            bucket,
            runtime: Handle::current(),
        })
    }
}

impl Depots for Buckets {
    fn place(&self) -> String {
        format!("s3://{}", self.bucket.name)
    }

    fn of(&self, store: &str) -> Arc<dyn Depot> {
        let bucket = Bucket {
            prefix: format!("objects-{store}/"),
            ..self.bucket.clone()
        };
        let (leaving, gone) = mpsc::channel(LEAVING);
        self.runtime.spawn(remove_later(bucket.clone(), gone));
        Arc::new(Area {
            bucket,
            leaving,
            runtime: self.runtime.clone(),
        })
    }
}

/// The depot of one store.
struct Area {
    bucket: Bucket,
    leaving: mpsc::Sender<(Instant, String)>,
    runtime: Handle,
}

#[async_trait]
impl Depot for Area {
    fn begin(&self, name: String) -> Box<dyn StageWriter> {
        Box::new(self.bucket.upload(name))
    }

    fn open(&self, name: &str, meta: ObjectMeta) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        // What was replaced a moment ago is there for another while.
        Ok(Some(self.bucket.reader(name, meta)))
    }

    async fn size(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.bucket.size(name).await
    }

    fn remove(&self, name: &str) {
        // A full channel leaves it to the sweep of the next start.
        let _ = self.leaving.try_send((Instant::now() + GRACE, name.to_owned()));
    }

    fn sweep(&self, keep: Keep) -> Result<u64, StoreError> {
        let bucket = self.bucket.clone();
        self.runtime.spawn(async move {
            match sweep(&bucket, keep).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "blobs that no object names are removed"),
                Err(error) => tracing::warn!(%error, "blobs that no object names stay for now"),
            }
        });
        Ok(0)
    }
}

async fn remove_later(bucket: Bucket, mut gone: mpsc::Receiver<(Instant, String)>) {
    while let Some((when, blob)) = gone.recv().await {
        sleep_until(when).await;
        if let Err(error) = bucket.remove(&blob).await {
            tracing::warn!(blob, %error, "a blob is not removed, the next start will");
        }
    }
}

async fn sweep(bucket: &Bucket, keep: Keep) -> Result<u64, StoreError> {
    let list = bucket
        .s3
        .list_objects_v2()
        .bucket(&bucket.name)
        .prefix(&bucket.prefix);
    let mut pages = list.into_paginator().send();
    let mut removed = 0;
    while let Some(page) = pages.next().await {
        let page = page.map_err(failure::of("S3"))?;
        let keys = page.contents().iter().filter_map(|object| object.key());
        for blob in keys.filter_map(|key| key.strip_prefix(&bucket.prefix)) {
            if !keep(blob) {
                bucket.remove(blob).await?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}
