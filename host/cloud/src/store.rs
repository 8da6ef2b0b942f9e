//! The store itself: what its parts share, and the trait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_runtime::clock::{Clock, SystemClock};
use tidegate_runtime::store::{
    CommitError, Declarations, Delivery, Depth, Frozen, ObjectMeta, ObjectReader, Order, Page, Receipt,
    StageWriter, Staged, Store, StoreError, Unit, Versioned,
};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backup::Moment;
use crate::bucket::Bucket;
use crate::calls::Calls;
use crate::clients::Clients;
use crate::hold::Seen;
use crate::keys::Key;
use crate::opening::OpenError;
use crate::queue::{Batches, Queues};
use crate::settings::Settings;
use crate::stamps::Stamps;

/// Units that are committed at one time; more wait for their turn.
const COMMITS: usize = 64;
/// What the keys of blobs begin with.
const BLOBS: &str = "blobs/";

/// The store of many hosts.
pub struct Cloud {
    core: Arc<Core>,
    _stop: DropGuard,
}

/// What the parts share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) dynamo: aws_sdk_dynamodb::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    /// Bytes of objects, and large values.
    pub(crate) blobs: Bucket,
    /// For buckets of others.
    pub(crate) attached: BTreeMap<String, aws_sdk_s3::Client>,
    pub(crate) sqs: aws_sdk_sqs::Client,
    clock: Arc<dyn Clock>,
    pub(crate) stamps: Stamps,
    calls: Calls,
    pub(crate) queues: Queues,
    /// Rows of the outbox of which nothing is left to do.
    pub(crate) finished: Arc<Batches<Key>>,
    pub(crate) turns: Semaphore,
    pub(crate) seen: Seen,
}

impl Cloud {
    /// Opens the store; what dead hosts left undone is looked for from now on.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with_clock(settings, Arc::new(SystemClock)).await
    }

    /// Opens the store by another clock.
    pub async fn open_with_clock(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let core = Core::new(settings, clock).await;
        core.prepare().await?;
        let (holding, sweeping) = (core.clone().keep_holding(), core.clone().sweep_for_ever());
        Ok(Self::with(core, async { _ = tokio::join!(holding, sweeping) }))
    }

    /// Opens a store that is there, for a process that stands still between the works that it is handed: nothing is
    /// looked for by itself, and only what it holds is kept from others.
    pub async fn open_handed(settings: Settings) -> Self {
        let core = Core::new(settings, Arc::new(SystemClock)).await;
        Self::with(core.clone(), core.keep_holding())
    }

    /// A store with what it does by itself, until it is dropped.
    fn with(core: Arc<Core>, working: impl Future<Output = ()> + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(working).await });
        Self {
            core,
            _stop: stop.drop_guard(),
        }
    }

    /// Finishes what dead hosts left undone, once.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.core.sweep().await
    }

    /// How often each operation of the services was called.
    pub fn calls(&self) -> &Calls {
        &self.core.calls
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Gives back what this host holds, so that others need not wait for it.
    pub async fn close(&self) {
        self.core.give_back_all().await;
    }
}

impl Core {
    pub(crate) async fn new(settings: Settings, clock: Arc<dyn Clock>) -> Arc<Self> {
        let calls = Calls::default();
        let Clients {
            dynamo,
            s3,
            attached,
            sqs,
        } = Clients::new(&settings, &calls).await;
        let blobs = Bucket {
            s3: s3.clone(),
            name: settings.bucket.clone(),
            prefix: BLOBS.to_owned(),
        };
        Arc::new(Self {
            settings,
            dynamo,
            s3,
            blobs,
            attached,
            sqs,
            stamps: Stamps::new(rand::random(), clock.clone()),
            clock,
            calls,
            queues: Queues::default(),
            finished: Arc::default(),
            turns: Semaphore::new(COMMITS),
            seen: Seen::default(),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A new name, which sorts by time.
    pub(crate) fn new_id(&self) -> String {
        ulid::Ulid::from_parts(self.now(), rand::random()).to_string()
    }
}

#[async_trait]
impl Store for Cloud {
    async fn commit(&self, unit: Unit) -> Result<(), CommitError> {
        // Whoever waits may go; what is begun is brought to its end.
        let core = self.core.clone();
        let committing = tokio::spawn(async move { core.commit(unit).await });
        committing.await.map_err(StoreError::new)?
    }

    async fn get(&self, table: &str, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.core.get(table, key).await
    }

    async fn get_many(&self, table: &str, keys: &[String]) -> Result<Vec<Option<Versioned>>, StoreError> {
        self.core.get_many(table, keys).await
    }

    async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError> {
        self.core.query(table, prefix, after, limit, order).await
    }

    async fn claim(&self, queue: &str, max: usize, wait: Duration) -> Result<Vec<Delivery>, StoreError> {
        self.core.claim(queue, max, wait).await
    }

    async fn unclaim(&self, receipts: &[Receipt]) -> Result<(), StoreError> {
        self.core.unclaim(receipts).await
    }

    async fn depth(&self, queue: &str) -> Result<Depth, StoreError> {
        self.core.depth(queue).await
    }

    async fn retire(&self, queue: &str) -> Result<(), StoreError> {
        self.core.retire(queue).await
    }

    async fn recent_depth(&self, queue: &str) -> Result<Depth, StoreError> {
        self.core.recent_depth(queue).await
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        Ok(self.core.object(bucket, key).await?.map(|object| object.meta))
    }

    async fn open(&self, bucket: &str, key: &str) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        self.core.open(bucket, key).await
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError> {
        self.core.list(bucket, prefix, after, limit).await
    }

    async fn stage(&self) -> Result<Box<dyn StageWriter>, StoreError> {
        Ok(self.core.stage())
    }

    async fn open_staged(&self, staged: &Staged) -> Result<Arc<dyn ObjectReader>, StoreError> {
        self.core.open_staged(staged).await
    }

    fn declarations(&self) -> Option<&dyn Declarations> {
        Some(self.core.as_ref())
    }

    async fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, StoreError> {
        Ok(Some(Box::new(Moment::new(&self.core).await?)))
    }
}

/// Waits between tries that others stand in the way of: longer each time, by chance, and not for ever.
pub(crate) struct Patience {
    tries: u32,
}

impl Patience {
    /// Tries of one thing; together about half a minute.
    const TRIES: u32 = 60;
    const LONGEST_MS: u64 = 1000;

    pub(crate) fn new() -> Self {
        Self { tries: 0 }
    }

    /// Waits; or says that it has been enough.
    pub(crate) async fn wait(&mut self) -> bool {
        self.tries += 1;
        if self.tries > Self::TRIES {
            return false;
        }
        let bound = (5_u64 << self.tries.min(8)).min(Self::LONGEST_MS);
        tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % bound)).await;
        true
    }
}
