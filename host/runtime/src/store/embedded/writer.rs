//! The writer: one thread that commits the units of all callers in groups, and wakes delayed events.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::group::{Group, Prepared, Written};
use super::janitor::Chore;
use super::rows::due_of;
use crate::store::{CommitError, StoreError};

/// Units of one synced batch at most.
const GROUP: usize = 256;
/// Delayed events that one batch moves at most.
const PROMOTE: usize = 256;
/// The longest sleep while an event is delayed: the machine's clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A unit and who waits for it.
pub(super) struct Request {
    pub unit: Prepared,
    pub done: oneshot::Sender<Result<(), CommitError>>,
}

/// Starts the thread; it ends when `stop` is cancelled and what was sent before is committed.
pub(super) fn start(
    core: Arc<Core>,
    counter: u64,
    requests: mpsc::Receiver<Request>,
    chores: SyncSender<Chore>,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut writer = Writer {
        core,
        counter,
        chores,
        cursor: Vec::new(),
        due: None,
    };
    std::thread::Builder::new()
        .name("tidegate-store".into())
        .spawn(move || {
            let _told = Panicked(writer.core.clone());
            writer.look_ahead();
            runtime.block_on(writer.run(requests, stop));
        })
}

/// Tells of the end of the writer when it is a panic: nothing would be committed any more.
struct Panicked(Arc<Core>);

impl Drop for Panicked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&"its writer panicked");
        }
    }
}

impl Core {
    /// Notes that the database takes no write any more.
    pub(super) fn fail(&self, error: &dyn std::fmt::Display) -> StoreError {
        let error = StoreError(format!("the database failed: {error}"));
        self.failed.send_replace(Some(error.clone()));
        error
    }
}

struct Writer {
    core: Arc<Core>,
    counter: u64,
    chores: SyncSender<Chore>,
    /// No delayed row lies before this key.
    cursor: Vec<u8>,
    /// When the first delayed event is due.
    due: Option<u64>,
}

impl Writer {
    async fn run(&mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let nap = self.nap();
            tokio::select! {
                biased;
                received = requests.recv_many(&mut group, GROUP) => if received == 0 { return },
                () = stop.cancelled() => return,
                () = tokio::time::sleep(nap.unwrap_or_default()), if nap.is_some() => {}
            }
            self.commit(group.drain(..));
        }
    }

    /// How long until a delayed event is due; none while there is none.
    fn nap(&self) -> Option<Duration> {
        let due = Duration::from_millis(self.due?.saturating_sub(self.core.clock.now_ms()));
        Some(due.min(LONGEST_SLEEP))
    }

    /// Commits a group, then answers.
    fn commit(&mut self, requests: impl Iterator<Item = Request>) {
        let core = self.core.clone();
        let mut group = Group::new(&core, core.clock.now_ms(), self.counter);
        let moved = self.promote(&mut group);
        let mut admitted = Vec::with_capacity(GROUP);
        for Request { unit, done } in requests {
            match group.admit(unit) {
                Ok(()) => admitted.push(done),
                Err(error) => answer(done, Err(error)),
            }
        }
        let result = group.write().map(|written| self.written(written, moved));
        if let Err(error) = &result {
            tracing::error!(%error, units = admitted.len(), "a group of units is not committed");
            self.due = self.due.map(|due| due.max(later(&self.core)));
        }
        for done in admitted {
            answer(done, result.clone().map_err(CommitError::Store));
        }
    }

    fn promote(&mut self, group: &mut Group<'_>) -> Option<Vec<u8>> {
        if self.due? > self.core.clock.now_ms() {
            return None;
        }
        group.promote(&self.cursor, PROMOTE).unwrap_or_else(|error| {
            tracing::error!(%error, "delayed events are not moved");
            self.due = Some(later(&self.core));
            None
        })
    }

    fn written(&mut self, written: Written, moved: Option<Vec<u8>>) {
        self.counter = written.counter;
        if let Some(moved) = moved {
            self.cursor = moved;
            self.look_ahead();
        }
        if let Some(delayed) = written.delayed {
            let due = due_of(&delayed).ok();
            self.due = self.due.into_iter().chain(due).min();
            self.cursor = delayed.min(std::mem::take(&mut self.cursor));
        }
        if !written.garbage.is_empty() {
            // A full channel leaves them to the sweep of the next start.
            let _ = self.chores.try_send(Chore::Remove(written.garbage));
        }
    }

    /// Finds the first delayed row.
    fn look_ahead(&mut self) {
        let first = self.core.delayed.range(self.cursor.as_slice()..).next();
        let due = first.map(|row| row.key().map_err(StoreError::new).and_then(|key| due_of(&key)));
        self.due = due.and_then(|due| {
            due.inspect_err(|error| tracing::error!(%error, "a delayed row is unreadable"))
                .ok()
        });
    }
}

/// When to try again what failed.
fn later(core: &Core) -> u64 {
    core.clock.now_ms() + LONGEST_SLEEP.as_millis() as u64
}

fn answer(done: oneshot::Sender<Result<(), CommitError>>, result: Result<(), CommitError>) {
    // Whoever asked may have gone; the unit is committed all the same.
    let _ = done.send(result);
}
