//! The suite that every back-end of the [`Store`] runs: each test is a sentence of the contract.

#![allow(clippy::unwrap_used, clippy::panic)]

mod counts;
mod groups;
mod objects;
mod queues;
mod state;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{
    CommitError, Condition, Delivery, Enqueue, Publication, Receipt, Staged, StateWrite, Store, StoreError,
    Unit,
};
use crate::event::Event;

/// What has to live as long as a store.
pub type Guard = Box<dyn Any + Send>;
/// What a test gets: an empty store, and what has to live as long.
pub type Fixture = (Arc<dyn Store>, Guard);

/// How much the tests ask of a store.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Events of a long backlog, in hundreds.
    hundreds: usize,
    /// A time within which a few calls are answered for sure, in milliseconds.
    moment: u64,
    /// How long one test may take.
    patience: Duration,
}

impl Load {
    /// For a store within the process.
    pub const LOCAL: Self = Self {
        hundreds: 50,
        moment: 300,
        patience: Duration::from_secs(60),
    };
    /// For a store that each call reaches over a network.
    pub const REMOTE: Self = Self {
        hundreds: 3,
        moment: 4000,
        patience: Duration::from_secs(300),
    };
}

/// Long enough for a wait that must not end by itself.
const LONG: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
const SHORT: Duration = Duration::from_millis(50);

/// Runs the whole suite, each test on a store of its own.
pub async fn run_all(make: impl AsyncFn() -> Fixture, load: Load) {
    state::run(&make, load).await;
    counts::run(&make, load).await;
    queues::run(&make, load).await;
    groups::run(&make, load).await;
    objects::run(&make, load).await;
}

/// Runs tests one after another and says which one is running.
macro_rules! run {
    ($make:expr, $load:expr, $($test:ident),+ $(,)?) => {
        $({
            eprintln!("conformance: {}", stringify!($test));
            let (store, _guard) = $make().await;
            tokio::time::timeout($load.patience, $test(store, $load)).await.expect(stringify!($test));
        })+
    };
}
use run;

/// An event; the store looks at none of its fields.
pub fn event(id: &str) -> Arc<Event> {
    Arc::new(Event {
        id: id.into(),
        source: "/conformance".into(),
        kind: "Tested".into(),
        subject: Some("späße/\u{10ffff}".into()),
        time: 1,
        content_type: Some("application/octet-stream".into()),
        data: Bytes::from_static(&[0, 255, 1]),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        run: id.into(),
        parent: None,
        part_of: None,
    })
}

/// A new event for a queue.
pub fn enqueue(queue: &str, id: &str) -> Enqueue {
    Enqueue {
        queue: queue.into(),
        group: None,
        event: event(id),
        not_before: None,
        attempt: 1,
    }
}

/// An unconditional put.
pub fn put(table: &str, key: &str, value: &str) -> StateWrite {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    StateWrite {
        table: table.into(),
        key: key.into(),
        value,
        condition: Condition::None,
    }
}

/// An unconditional deletion.
pub fn delete(table: &str, key: &str) -> StateWrite {
    StateWrite {
        table: table.into(),
        key: key.into(),
        value: None,
        condition: Condition::None,
    }
}

fn state(writes: impl IntoIterator<Item = StateWrite>) -> Unit {
    Unit {
        state: writes.into_iter().collect(),
        ..Unit::default()
    }
}

fn events(events: impl IntoIterator<Item = Enqueue>) -> Unit {
    Unit {
        enqueue: events.into_iter().collect(),
        ..Unit::default()
    }
}

fn settle(receipts: impl IntoIterator<Item = Receipt>) -> Unit {
    Unit {
        settle: receipts.into_iter().collect(),
        ..Unit::default()
    }
}

fn objects(publications: impl IntoIterator<Item = Publication>) -> Unit {
    Unit {
        objects: publications.into_iter().collect(),
        ..Unit::default()
    }
}

/// Stages bytes, in one write.
pub async fn stage(store: &dyn Store, bytes: &[u8]) -> Staged {
    let mut writer = store.stage().await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.finish().await.unwrap()
}

/// Publishes staged bytes; none deletes.
pub fn publication(bucket: &str, key: &str, staged: Option<Staged>) -> Publication {
    Publication {
        bucket: bucket.into(),
        key: key.into(),
        staged,
        content_type: None,
        user: Default::default(),
        condition: Condition::None,
    }
}

async fn publish(store: &dyn Store, key: &str, bytes: &[u8]) {
    let staged = stage(store, bytes).await;
    store
        .commit(objects([publication("b", key, Some(staged))]))
        .await
        .unwrap();
}

async fn value(store: &dyn Store, table: &str, key: &str) -> Option<String> {
    let found = store.get(table, key).await.unwrap()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

async fn contents(store: &dyn Store, bucket: &str, key: &str) -> Option<Vec<u8>> {
    let reader = store.open(bucket, key).await.unwrap()?;
    Some(reader.read_at(0, usize::MAX / 2).await.unwrap().to_vec())
}

/// All that a queue has to hand out, which is something: a claim may return with the first that comes.
async fn claim_all(store: &dyn Store, queue: &str) -> Vec<Delivery> {
    let mut all = store.claim(queue, 10_000, LONG).await.unwrap();
    loop {
        let more = store.claim(queue, 10_000, SHORT).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// Whether a queue has nothing to hand out.
async fn is_dry(store: &dyn Store, queue: &str) -> bool {
    store.claim(queue, 10_000, SHORT).await.unwrap().is_empty()
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| delivery.event.id.clone())
        .collect()
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries
        .iter()
        .map(|delivery| delivery.receipt.clone())
        .collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn is_conflict(result: &Result<(), CommitError>, table: &str, key: &str) -> bool {
    matches!(result, Err(CommitError::Conflict { table: t, key: k, .. }) if t == table && k == key)
}

fn is_lost(result: &Result<(), CommitError>) -> bool {
    matches!(result, Err(CommitError::Lost { .. }))
}

fn is_refused(result: &Result<(), CommitError>) -> bool {
    matches!(result, Err(CommitError::Store(StoreError(_))))
}
