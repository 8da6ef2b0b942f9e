//! The janitor: a thread that removes blobs nobody names any more, and old done markers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::group::Prepared;
use super::rows::{decode_value, key_within, scan};
use super::writer::Request;
use crate::effects::DONE;
use crate::store::{Condition, Order, StateWrite, StoreError, Unit};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(3600);
/// A done marker outlives its event by this much; its value begins with the time, in milliseconds.
const KEEP_DONE_MS: u64 = 14 * 24 * 3600 * 1000;
/// What is staged and not published for this long never will be.
const KEEP_STAGED_MS: u64 = 24 * 3600 * 1000;
/// Done markers that are looked at, and removed, in one go.
const CHUNK: usize = 256;
/// Between two chunks, so that a round is never in the way.
const BREATH: Duration = Duration::from_millis(5);

/// What the janitor is told.
pub(super) enum Chore {
    /// Remove these blobs.
    Remove(Vec<String>),
    /// Go home.
    Stop,
}

/// Starts the thread; it ends on [`Chore::Stop`].
pub(super) fn start(
    core: Arc<Core>,
    requests: mpsc::Sender<Request>,
    chores: Receiver<Chore>,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let janitor = Janitor { core, requests, stop };
    std::thread::Builder::new()
        .name("tidegate-janitor".into())
        .spawn(move || janitor.run(&chores))
}

struct Janitor {
    core: Arc<Core>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
}

impl Janitor {
    fn run(&self, chores: &Receiver<Chore>) {
        let mut round = Instant::now() + ROUND;
        loop {
            match chores.recv_timeout(round.saturating_duration_since(Instant::now())) {
                Ok(Chore::Remove(blobs)) => blobs.iter().for_each(|blob| self.core.blobs.remove(blob)),
                Ok(Chore::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.round();
                    round = Instant::now() + ROUND;
                }
            }
        }
    }

    fn round(&self) {
        let now = self.core.clock.now_ms();
        for blob in self
            .core
            .blobs
            .take_older_than(now.saturating_sub(KEEP_STAGED_MS))
        {
            self.core.blobs.remove(&blob);
        }
        match forget_done(
            &self.core,
            &self.requests,
            &self.stop,
            now.saturating_sub(KEEP_DONE_MS),
        ) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old done markers removed"),
            Err(error) => tracing::warn!(%error, "old done markers stay for now"),
        }
    }
}

/// Removes the done markers that are older than `time`, a chunk at a time.
pub(super) fn forget_done(
    core: &Core,
    requests: &mpsc::Sender<Request>,
    stop: &CancellationToken,
    time: u64,
) -> Result<usize, StoreError> {
    let (mut removed, mut after) = (0, None);
    while !stop.is_cancelled() {
        let chunk = markers(core, after.as_deref())?;
        let Some((last, _, _)) = chunk.last() else { break };
        after = Some(last.clone());
        let old = chunk.into_iter().filter(|(_, _, written)| *written < time);
        let state: Vec<_> = old.map(|(key, version, _)| deletion(key, version)).collect();
        removed += state.len();
        commit(
            requests,
            Unit {
                state,
                ..Unit::default()
            },
        )?;
        std::thread::sleep(BREATH);
    }
    Ok(removed)
}

/// The next markers: key, version, time.
fn markers(core: &Core, after: Option<&str>) -> Result<Vec<(String, u64, u64)>, StoreError> {
    let Some(range) = scan(DONE, "", after, Order::Ascending)? else {
        return Ok(Vec::new());
    };
    let rows = core.state.range::<Vec<u8>, _>(range).take(CHUNK);
    let marker = |row: fjall::Guard| {
        let (key, value) = row.into_inner().map_err(StoreError::new)?;
        let value = decode_value(&value)?;
        let written = value
            .value
            .first_chunk()
            .map_or(u64::MAX, |time| u64::from_be_bytes(*time));
        Ok((key_within(DONE, &key)?, value.version, written))
    };
    rows.map(marker).collect()
}

fn commit(requests: &mpsc::Sender<Request>, unit: Unit) -> Result<(), StoreError> {
    if unit.state.is_empty() {
        return Ok(());
    }
    let (done, result) = oneshot::channel();
    let request = Request {
        unit: Prepared::new(unit)?,
        done,
    };
    requests.blocking_send(request).map_err(StoreError::new)?;
    result
        .blocking_recv()
        .map_err(StoreError::new)?
        .map_err(StoreError::new)
}

fn deletion(key: String, version: u64) -> StateWrite {
    StateWrite {
        table: DONE.into(),
        key,
        value: None,
        condition: Condition::Version(version),
    }
}
