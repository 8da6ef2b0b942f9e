//! The store: state, objects and queues behind one trait, with one way to change them, the unit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::Event;

mod backup;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod declarations;
mod depot;
pub mod embedded;
pub mod memory;

pub use backup::{Extent, Frozen, Part, Refill, RefillError};
pub use declarations::{Declaration, Declarations, Lying};
pub use depot::{Depot, Depots, Keep};

/// Tables whose name starts with this belong to the platform; a manifest cannot grant them.
pub const SYSTEM_PREFIX: char = '$';

/// A value and the version its last write gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub value: Bytes,
    /// Grows with every write of the key; no two writes have the same.
    pub version: u64,
}

/// What must hold of a key when the unit commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key has no value.
    Absent,
    /// The key's value has this version.
    Version(u64),
}

impl Condition {
    /// Refuses what was found when the condition does not hold of it.
    pub fn check(
        self,
        found: Option<u64>,
        place: impl FnOnce() -> (String, String),
    ) -> Result<(), CommitError> {
        let holds = match self {
            Self::None => true,
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version),
        };
        if holds {
            return Ok(());
        }
        let (table, key) = place();
        let found = found.map_or_else(|| "no value".into(), |version| format!("version {version}"));
        Err(CommitError::Conflict { table, key, found })
    }
}

/// One write of one key; `None` deletes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The new value; none deletes.
    pub value: Option<Bytes>,
    /// What must hold.
    pub condition: Condition,
}

/// An object's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// The key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The entity tag, without quotes: the hex MD5 that S3 clients expect, or theirs for multipart.
    pub etag: String,
    /// The media type.
    pub content_type: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub modified: u64,
    /// Grows with every publication in the store: two writes of one key are ordered by it.
    pub sequencer: u64,
    /// The client's own metadata (`x-amz-meta-*`).
    #[serde(default)]
    pub user: BTreeMap<String, String>,
}

/// Bytes that are durable but not yet an object; a unit publishes them. What no unit published is swept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Names the bytes in the back-end.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    /// The entity tag, without quotes.
    pub etag: String,
}

/// A publication (or deletion) of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What to publish; none deletes the object.
    pub staged: Option<Staged>,
    /// The media type.
    pub content_type: Option<String>,
    /// The client's own metadata.
    pub user: BTreeMap<String, String>,
    /// What must hold of the present object when the unit commits; the version is its sequencer.
    pub condition: Condition,
}

/// What events of one queue have in common that are handed out one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(u128);

impl Group {
    /// Bytes of a group in a row.
    const BYTES: usize = 16;

    /// The group of a name of any length.
    pub fn of(name: &[u8]) -> Self {
        let mut bytes = [0; Self::BYTES];
        blake3::Hasher::new().update(name).finalize_xof().fill(&mut bytes);
        Self::from_bytes(bytes)
    }

    /// A number below `bound`, always the same of one group.
    pub fn among(self, bound: u32) -> u32 {
        (self.0 % u128::from(bound.max(1))) as u32
    }

    /// The group as it is kept.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The group that was kept.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// One event for one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueue {
    /// The queue: one for each function, by its name.
    pub queue: String,
    /// The group within the queue; an event without one waits for no other.
    pub group: Option<Group>,
    /// The event.
    pub event: Arc<Event>,
    /// Not before this time, in milliseconds since the epoch.
    pub not_before: Option<u64>,
    /// The attempt that the next delivery will be; 1 for a new event.
    pub attempt: u32,
}

/// Names one delivery of one event; it is spent by the unit that settles it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The queue.
    pub queue: String,
    /// The event's place in it.
    pub seq: u64,
    /// Which delivery of the event it is: no two have the same number.
    pub claim: u64,
}

/// A delivery whose event comes again in its place, before all that follow in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral {
    /// The delivery; its event has a group.
    pub receipt: Receipt,
    /// Not before this time, in milliseconds since the epoch.
    pub not_before: u64,
    /// The attempt that the next delivery will be.
    pub attempt: u32,
}

/// An event handed out by [`Store::claim`].
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What settles it.
    pub receipt: Receipt,
    /// The group that it holds until it is settled.
    pub group: Option<Group>,
    /// The event.
    pub event: Arc<Event>,
    /// 1 on the first delivery.
    pub attempt: u32,
}

/// All that one commit changes: all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Deliveries that this unit settles: their events leave their queues. To try an event again, settle
    /// it and enqueue it with the next attempt in the same unit.
    pub settle: Vec<Receipt>,
    /// Deliveries whose events come again in their places; until then they hold back the rest of their groups.
    pub defer: Vec<Deferral>,
    /// Writes, in order; at most one for each key.
    pub state: Vec<StateWrite>,
    /// Publications, in order; at most one for each object.
    pub objects: Vec<Publication>,
    /// Events for queues, in order.
    pub enqueue: Vec<Enqueue>,
    /// What is added up; at most one for each key, and none of a key that `state` writes.
    pub counts: Vec<Count>,
}

/// A number that many units add to at one time, without a condition; its value is its digits.
///
/// A back-end that cannot look at the sum within a commit adds in the commit and has whoever drains its outbox look:
/// what enters at zero is an event with an id of its own, which may come twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The table.
    pub table: String,
    /// The key; without a value it counts as 0.
    pub key: String,
    /// What is added.
    pub add: i64,
    /// What enters its queue when the sum is 0. The key has no value then.
    pub at_zero: Enqueue,
}

impl Count {
    /// The sum with what was found.
    fn sum(&self, found: Option<&[u8]>) -> Result<i64, StoreError> {
        let Some(found) = found else {
            return Ok(self.add);
        };
        let number = std::str::from_utf8(found)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let sum = number.and_then(|number| number.checked_add(self.add));
        sum.ok_or_else(|| {
            let (table, key, add) = (&self.table, &self.key, self.add);
            StoreError(format!(
                "`{table}/{key}` holds no number that {add} can be added to"
            ))
        })
    }

    /// The value of a sum; none at zero.
    fn value_of(sum: i64) -> Option<Bytes> {
        (sum != 0).then(|| Bytes::from(sum.to_string()))
    }
}

/// Why a unit did not commit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold; nothing was changed.
    #[error("condition failed on `{table}/{key}`: {found}")]
    Conflict {
        /// The table, or `objects:BUCKET`.
        table: String,
        /// The key.
        key: String,
        /// What was found instead.
        found: String,
    },
    /// A receipt was settled before or its lease ran out; nothing was changed.
    #[error("the delivery `{queue}/{seq}` is not held any more")]
    Lost {
        /// The queue.
        queue: String,
        /// The place.
        seq: u64,
    },
    /// The back-end cannot check so much at once; nothing was changed, and trying again is of no use.
    #[error("the unit has {found} changes that depend on something, allowed are {allowed}")]
    TooLarge {
        /// How many there are.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// The store could not answer; the unit may or may not have been committed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store could not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("store unavailable: {0}")]
pub struct StoreError(pub String);

impl StoreError {
    /// Any error of a back-end.
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A page of a listing.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries, in byte order of their keys (or the reverse, where asked).
    pub entries: Vec<T>,
    /// Where to go on: the `after` of the next call; none at the end.
    pub next: Option<String>,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// Ready or claimed.
    pub ready: u64,
    /// Held back until their time.
    pub delayed: u64,
}

/// Which way a query goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Byte order.
    Ascending,
    /// The reverse.
    Descending,
}

/// State, objects and queues.
///
/// # Contract
/// - `commit` is atomic and durable: when it returns `Ok`, the unit survives a crash; when it returns
///   `Conflict` or `Lost`, nothing changed; on `Store` the caller finds out by its done marker.
/// - A read that starts after a commit returned sees it.
/// - A claimed event is not claimed again while its receipt is held by a live process; after a crash
///   every event that was not settled is delivered again, with the attempt it had.
/// - A queue hands out events in the order of their commits, those held back when their time comes.
/// - Counts add up, whatever is committed at the same time: no unit is refused for another's, and exactly the unit that
///   brings one to zero enqueues what belongs to it.
/// - Events of one group are handed out one at a time, in that order: the next when the last is settled. What is
///   given back or deferred keeps its place, also across a crash. Other groups, and events without one, go on,
///   however many wait in a group.
/// - A receipt is of one delivery: what is claimed again is not touched by an older one.
/// - A reader opened on an object reads that version to the end, whatever is published meanwhile.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits a unit.
    async fn commit(&self, unit: Unit) -> Result<(), CommitError>;

    /// The value of a key.
    async fn get(&self, table: &str, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// The values of keys, in their order.
    async fn get_many(&self, table: &str, keys: &[String]) -> Result<Vec<Option<Versioned>>, StoreError>;

    /// Keys that start with `prefix`, strictly after (or, descending, before) `after`.
    async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError>;

    /// Up to `max` events of a queue; waits up to `wait` for the first.
    async fn claim(&self, queue: &str, max: usize, wait: Duration) -> Result<Vec<Delivery>, StoreError>;

    /// Gives claimed events back unhandled, to be claimed again at once with the same attempt.
    async fn unclaim(&self, receipts: &[Receipt]) -> Result<(), StoreError>;

    /// How full a queue is; whether it is empty is exact, a large number may be an estimate.
    async fn depth(&self, queue: &str) -> Result<Depth, StoreError>;

    /// Nobody takes from this queue for now. What it needs outside of the store may be given up once it is empty; the
    /// next use of it makes it anew.
    async fn retire(&self, _queue: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// How full a queue was a moment ago, for those who ask for every event.
    async fn recent_depth(&self, queue: &str) -> Result<Depth, StoreError> {
        self.depth(queue).await
    }

    /// An object's metadata.
    async fn head(&self, bucket: &str, key: &str) -> Result<Option<ObjectMeta>, StoreError>;

    /// Opens one version of an object.
    async fn open(&self, bucket: &str, key: &str) -> Result<Option<Arc<dyn ObjectReader>>, StoreError>;

    /// Objects whose key starts with `prefix`, strictly after `after`.
    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError>;

    /// Begins to write bytes that a unit may publish.
    async fn stage(&self) -> Result<Box<dyn StageWriter>, StoreError>;

    /// Opens staged bytes before they are published.
    async fn open_staged(&self, staged: &Staged) -> Result<Arc<dyn ObjectReader>, StoreError>;

    /// What is declared beside the platform; none where nothing can be.
    fn declarations(&self) -> Option<&dyn Declarations> {
        None
    }

    /// All of it at one moment, to be backed up; none where it lasts no longer than its process.
    async fn freeze(&self) -> Result<Option<Box<dyn Frozen>>, StoreError> {
        Ok(None)
    }
}

/// One version of an object.
#[async_trait]
pub trait ObjectReader: Send + Sync {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Bytes from `offset`, `len` of them or as many as there are.
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError>;
    /// Why a read failed for good: the bytes lie outside of the store, and are not there any more.
    fn gone(&self) -> Option<&str> {
        None
    }
}

/// Bytes being staged; dropped without `finish`, they are removed.
#[async_trait]
pub trait StageWriter: Send + Sync {
    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;
    /// Makes the bytes durable.
    async fn finish(self: Box<Self>) -> Result<Staged, StoreError>;
}
