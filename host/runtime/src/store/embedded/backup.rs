//! A moment of the store: a snapshot of its database, between two units, and every blob that it names.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fjall::{Keyspace, Readable as _, Snapshot};
use serde::{Deserialize, Serialize};

use super::Core;
use super::blobs::Blobs;
use super::files::blocking;
use super::janitor::Chore;
use super::opening::DEPOT_KEY;
use super::rows::ObjectRow;
use crate::store::{Frozen, ObjectMeta, ObjectReader, Part, StoreError};

/// What a back-up of this store says that it is of.
pub const LAYOUT: &str = "embedded-1";
/// Rows of one part at most.
const ROWS: usize = 1000;
/// Bytes of rows after which a part ends.
const BYTES: usize = 4 << 20;

/// A row of the database, as a line of a back-up.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// The keyspace.
    #[serde(rename = "in")]
    pub keyspace: String,
    /// Its key, in base64.
    pub key: String,
    /// Its value, in base64.
    pub value: String,
}

impl Core {
    /// Every keyspace by its name.
    fn keyspaces(&self) -> [(&'static str, &Keyspace); 5] {
        [
            ("meta", &self.meta),
            ("state", &self.state),
            ("ready", &self.ready),
            ("delayed", &self.delayed),
            ("objects", &self.objects),
        ]
    }
}

/// The store at one moment.
pub(super) struct Moment {
    core: Arc<Core>,
    snapshot: Snapshot,
    at: u64,
    /// Where the next part begins: the keyspace, after this key.
    next: (usize, Option<Vec<u8>>),
    _blobs: KeptBlobs,
}

impl Moment {
    pub(super) fn new(core: Arc<Core>, chores: SyncSender<Chore>) -> Self {
        // What is replaced after the snapshot stays, so blobs are kept before it is taken.
        let blobs = KeptBlobs::new(core.blobs.clone(), chores);
        Self {
            snapshot: core.db.snapshot(),
            at: core.clock.now_ms(),
            next: (0, None),
            core,
            _blobs: blobs,
        }
    }
}

#[async_trait]
impl Frozen for Moment {
    fn layout(&self) -> &'static str {
        LAYOUT
    }

    fn moment(&self) -> u64 {
        self.at
    }

    async fn next(&mut self) -> Result<Option<Part>, StoreError> {
        loop {
            let (nth, after) = self.next.clone();
            let (core, snapshot) = (self.core.clone(), self.snapshot.clone());
            let Some((part, last)) = blocking(move || read(&core, &snapshot, nth, after)).await? else {
                return Ok(None);
            };
            self.next = match last {
                Some(last) => (nth, Some(last)),
                None => (nth + 1, None),
            };
            if !part.rows.is_empty() {
                return Ok(Some(part));
            }
        }
    }

    async fn blob(&self, name: &str) -> Result<Arc<dyn ObjectReader>, StoreError> {
        let missing = || StoreError(format!("the blob `{}` is missing", name.escape_debug()));
        let size = self.core.blobs.size(name).await?.ok_or_else(missing)?;
        let meta = ObjectMeta {
            key: name.to_owned(),
            size,
            etag: String::new(),
            content_type: None,
            modified: self.at,
            sequencer: 0,
            user: Default::default(),
        };
        self.core.blobs.read(name, meta)?.ok_or_else(missing)
    }
}

/// A part of a keyspace, and after which key the next one begins, where there is more of that keyspace.
type Read = (Part, Option<Vec<u8>>);

/// Reads on; none after the last keyspace.
fn read(
    core: &Core,
    snapshot: &Snapshot,
    nth: usize,
    after: Option<Vec<u8>>,
) -> Result<Option<Read>, StoreError> {
    let keyspaces = core.keyspaces();
    let Some((name, keyspace)) = keyspaces.get(nth) else {
        return Ok(None);
    };
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut part, mut bytes) = (Part::default(), 0);
    for row in snapshot.range::<Vec<u8>, _>(keyspace, (from, Bound::Unbounded)) {
        let (key, value) = row.into_inner().map_err(StoreError::new)?;
        // Where the bytes lie is no part of what is restored: that store has a depot of its own.
        if *name == "meta" && *key == *DEPOT_KEY.as_bytes() {
            continue;
        }
        if *name == "objects" {
            part.blobs.push(ObjectRow::decode(&value)?.blob);
        }
        let line = Line {
            keyspace: (*name).to_owned(),
            key: STANDARD.encode(&key),
            value: STANDARD.encode(&value),
        };
        part.rows
            .push(serde_json::to_string(&line).map_err(StoreError::new)?);
        bytes += value.len();
        if part.rows.len() == ROWS || bytes >= BYTES {
            return Ok(Some((part, Some(key.to_vec()))));
        }
    }
    Ok(Some((part, None)))
}

/// Keeps every blob while it lives.
struct KeptBlobs {
    blobs: Arc<Blobs>,
    chores: SyncSender<Chore>,
}

impl KeptBlobs {
    fn new(blobs: Arc<Blobs>, chores: SyncSender<Chore>) -> Self {
        blobs.keep_all();
        Self { blobs, chores }
    }
}

impl Drop for KeptBlobs {
    fn drop(&mut self) {
        let garbage = self.blobs.let_go();
        if !garbage.is_empty() {
            // A full channel, or a store that is closed, leaves them to the sweep of the next start.
            let _ = self.chores.try_send(Chore::Remove(garbage));
        }
    }
}
