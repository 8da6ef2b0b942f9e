//! A store that goes wrong as a plan says: before a call took effect, or after.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_runtime::store::{
    CommitError, Delivery, Depth, ObjectMeta, ObjectReader, Order, Page, Receipt, StageWriter, Staged, Store,
    StoreError, Unit, Versioned,
};

/// When a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened yet.
    Before,
    /// It took effect; nobody is told.
    After,
}

/// What goes wrong.
#[async_trait]
pub trait Plan: Send + Sync + 'static {
    /// Lets a call pass this moment, or fails it; `number` is what [`Plan::number`] gave the call.
    async fn pass(&self, call: &'static str, moment: Moment, number: u64) -> Result<(), StoreError>;

    /// The number of a call that begins.
    fn number(&self) -> u64 {
        0
    }

    /// Alters a unit on its way to the store.
    fn alter(&self, _unit: &mut Unit) {}

    /// Sees a unit and what the store said to it.
    fn committed(&self, _unit: &Unit, _answer: &Result<(), CommitError>) {}

    /// Alters what was claimed.
    fn claimed(&self, _deliveries: &mut Vec<Delivery>) {}
}

/// A store with a plan.
pub struct Faulty<P> {
    inner: Arc<dyn Store>,
    plan: Arc<P>,
}

impl<P: Plan> Faulty<P> {
    /// Puts a plan around a store.
    pub fn new(inner: Arc<dyn Store>, plan: Arc<P>) -> Self {
        Self { inner, plan }
    }

    async fn call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        through(&*self.plan, name, call).await
    }
}

async fn through<T>(
    plan: &dyn Plan,
    name: &'static str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let number = plan.number();
    plan.pass(name, Moment::Before, number).await?;
    let answer = call.await?;
    plan.pass(name, Moment::After, number).await?;
    Ok(answer)
}

/// What is claimed and not handed over yet goes back, also when nobody waits for it any more.
struct Claimed {
    store: Arc<dyn Store>,
    deliveries: Vec<Delivery>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let receipts: Vec<Receipt> = self.deliveries.iter().map(|d| d.receipt.clone()).collect();
        if receipts.is_empty() {
            return;
        }
        // Every store under test gives back without waiting.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let giving_back = std::pin::pin!(self.store.unclaim(&receipts)).poll(&mut context);
        assert!(giving_back.is_ready(), "a store waits to give back");
    }
}

#[async_trait]
impl<P: Plan> Store for Faulty<P> {
    async fn commit(&self, mut unit: Unit) -> Result<(), CommitError> {
        let number = self.plan.number();
        self.plan.pass("commit", Moment::Before, number).await?;
        self.plan.alter(&mut unit);
        let answer = self.inner.commit(unit.clone()).await;
        self.plan.committed(&unit, &answer);
        self.plan.pass("commit", Moment::After, number).await?;
        answer
    }

    async fn get(&self, table: &str, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.call("get", self.inner.get(table, key)).await
    }

    async fn get_many(&self, table: &str, keys: &[String]) -> Result<Vec<Option<Versioned>>, StoreError> {
        self.call("get_many", self.inner.get_many(table, keys)).await
    }

    async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError> {
        self.call("query", self.inner.query(table, prefix, after, limit, order))
            .await
    }

    async fn claim(&self, queue: &str, max: usize, wait: Duration) -> Result<Vec<Delivery>, StoreError> {
        let number = self.plan.number();
        self.plan.pass("claim", Moment::Before, number).await?;
        let mut claimed = Claimed {
            deliveries: self.inner.claim(queue, max, wait).await?,
            store: self.inner.clone(),
        };
        self.plan.pass("claim", Moment::After, number).await?;
        let mut deliveries = std::mem::take(&mut claimed.deliveries);
        self.plan.claimed(&mut deliveries);
        Ok(deliveries)
    }

    async fn unclaim(&self, receipts: &[Receipt]) -> Result<(), StoreError> {
        self.call("unclaim", self.inner.unclaim(receipts)).await
    }

    async fn depth(&self, queue: &str) -> Result<Depth, StoreError> {
        self.call("depth", self.inner.depth(queue)).await
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        self.call("head", self.inner.head(bucket, key)).await
    }

    async fn open(&self, bucket: &str, key: &str) -> Result<Option<Arc<dyn ObjectReader>>, StoreError> {
        let opened = self.call("open", self.inner.open(bucket, key)).await?;
        Ok(opened.map(|inner| self.reader(inner)))
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError> {
        self.call("list", self.inner.list(bucket, prefix, after, limit))
            .await
    }

    async fn stage(&self) -> Result<Box<dyn StageWriter>, StoreError> {
        let inner = self.call("stage", self.inner.stage()).await?;
        let plan = self.plan.clone();
        Ok(Box::new(Stage { inner, plan }))
    }

    async fn open_staged(&self, staged: &Staged) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let inner = self.call("open_staged", self.inner.open_staged(staged)).await?;
        Ok(self.reader(inner))
    }
}

impl<P: Plan> Faulty<P> {
    fn reader(&self, inner: Arc<dyn ObjectReader>) -> Arc<dyn ObjectReader> {
        let plan = self.plan.clone();
        Arc::new(Reader { inner, plan })
    }
}

struct Stage<P> {
    inner: Box<dyn StageWriter>,
    plan: Arc<P>,
}

#[async_trait]
impl<P: Plan> StageWriter for Stage<P> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        through(&*self.plan, "stage.write", self.inner.write(bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<Staged, StoreError> {
        let Self { inner, plan } = *self;
        through(&*plan, "stage.finish", inner.finish()).await
    }
}

struct Reader<P> {
    inner: Arc<dyn ObjectReader>,
    plan: Arc<P>,
}

#[async_trait]
impl<P: Plan> ObjectReader for Reader<P> {
    fn meta(&self) -> &ObjectMeta {
        self.inner.meta()
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        through(&*self.plan, "read_at", self.inner.read_at(offset, len)).await
    }
}
