//! The janitor: a thread that removes blobs nobody names any more, and rows that are of no use after a while.

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
use crate::records::{EFFECTS, EVENTS, KEEP_PAST, LOGS, REQUESTS, RUNS, run_written};
use crate::store::{Condition, Order, StateWrite, StoreError, Unit};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(3600);
/// A done marker outlives its event by this much; its value begins with the time, in milliseconds.
const KEEP_DONE_MS: u64 = 14 * 24 * 3600 * 1000;
/// What is staged and not published for this long never will be.
const KEEP_STAGED_MS: u64 = 24 * 3600 * 1000;
/// Log lines, and records of requests, are kept for this long after the invocation that they are of began.
const KEEP_LOGS_MS: u64 = 14 * 24 * 3600 * 1000;
/// A run is kept for this long after it began, and each of its steps for as long after it ended.
const KEEP_RUNS_MS: u64 = 14 * 24 * 3600 * 1000;
/// Events that entered, and what was done with them, are kept for this long.
const KEEP_PAST_MS: u64 = KEEP_PAST.as_millis() as u64;
/// Rows that are looked at, and removed, in one go.
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
        for (rows, kept_ms) in [
            (&DONE_MARKERS, KEEP_DONE_MS),
            (&LOG_LINES, KEEP_LOGS_MS),
            (&REQUEST_RECORDS, KEEP_LOGS_MS),
            (&RUN_ROWS, KEEP_RUNS_MS),
            (&PAST_EVENTS, KEEP_PAST_MS),
            (&PAST_EFFECTS, KEEP_PAST_MS),
        ] {
            let before = now.saturating_sub(kept_ms);
            match forget(rows, &self.core, &self.requests, &self.stop, before) {
                Ok(0) => {}
                Ok(removed) => tracing::info!(table = rows.table, removed, "old rows removed"),
                Err(error) => tracing::warn!(table = rows.table, %error, "old rows stay for now"),
            }
        }
    }
}

/// Rows that are of no use after a while.
pub(super) struct Aging {
    table: &'static str,
    /// When a row was written, in milliseconds, from its key and its value; none where neither tells.
    written: fn(&str, &[u8]) -> Option<u64>,
}

impl Aging {
    /// Rows whose values begin with their time.
    const fn by_value(table: &'static str) -> Self {
        Self {
            table,
            written: |_key, value| Some(u64::from_be_bytes(*value.first_chunk()?)),
        }
    }
}

pub(super) const DONE_MARKERS: Aging = Aging::by_value(DONE);
pub(super) const PAST_EVENTS: Aging = Aging::by_value(EVENTS);
pub(super) const PAST_EFFECTS: Aging = Aging::by_value(EFFECTS);

/// The second part of the key of log lines is their time.
pub(super) const LOG_LINES: Aging = Aging {
    table: LOGS,
    written: |key, _value| key.split('/').nth(1)?.parse().ok(),
};

/// Runs and steps tell themselves.
pub(super) const RUN_ROWS: Aging = Aging {
    table: RUNS,
    written: |_key, value| run_written(value),
};

/// A request's record lies under an id that begins with the request's time.
pub(super) const REQUEST_RECORDS: Aging = Aging {
    table: REQUESTS,
    written: |key, _value| Some(ulid::Ulid::from_string(key).ok()?.timestamp_ms()),
};

/// Removes rows that were written before `time`, a chunk at a time.
pub(super) fn forget(
    rows: &Aging,
    core: &Core,
    requests: &mpsc::Sender<Request>,
    stop: &CancellationToken,
    time: u64,
) -> Result<usize, StoreError> {
    let (mut removed, mut after) = (0, None);
    while !stop.is_cancelled() {
        let chunk = chunk_of(rows, core, after.as_deref())?;
        let Some((last, _, _)) = chunk.last() else { break };
        after = Some(last.clone());
        let old = chunk.into_iter().filter(|(_, _, written)| *written < time);
        let state: Vec<_> = old
            .map(|(key, version, _)| deletion(rows.table, key, version))
            .collect();
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

/// The next rows: key, version, time.
fn chunk_of(aging: &Aging, core: &Core, after: Option<&str>) -> Result<Vec<(String, u64, u64)>, StoreError> {
    let Some(range) = scan(aging.table, "", after, Order::Ascending)? else {
        return Ok(Vec::new());
    };
    let rows = core.state.range::<Vec<u8>, _>(range).take(CHUNK);
    let aged = |row: fjall::Guard| {
        let (key, value) = row.into_inner().map_err(StoreError::new)?;
        let value = decode_value(&value)?;
        let key = key_within(aging.table, &key)?;
        let written = (aging.written)(&key, &value.value).unwrap_or(u64::MAX);
        Ok((key, value.version, written))
    };
    rows.map(aged).collect()
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

fn deletion(table: &str, key: String, version: u64) -> StateWrite {
    StateWrite {
        table: table.into(),
        key,
        value: None,
        condition: Condition::Version(version),
    }
}
