//! The sessions of one model: one at first, more when requests wait for them, up to a bound; or as many as its group has.
//!
//! ONNX Runtime computes one request in one session at a time here, and each session has its own weights.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::budget::{Share, trim};
use super::provider::Execution;
use super::runtime;

/// The sessions of one model.
#[derive(Debug)]
pub struct Sessions {
    file: Bytes,
    execution: Execution,
    most: usize,
    idle: Mutex<Vec<Session>>,
    turns: Arc<Semaphore>,
    opened: AtomicUsize,
    /// What the sessions take: one for each, or one for all that were there at first.
    shares: Mutex<Vec<Share>>,
}

/// A session that nobody else has.
#[derive(Debug)]
pub struct Turn {
    /// None only while it is dropped.
    session: Option<Session>,
    sessions: Arc<Sessions>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Opens a session; the error says what about the file, or about what is to compute it, does not work.
pub fn open(file: &[u8], execution: &Execution) -> Result<Session, String> {
    let environment = runtime::environment()?;
    let unusable = |error: ort::Error| format!("is not a usable ONNX file: {error}");
    let mut builder = builder(environment, execution.threads).map_err(unusable)?;
    execution.register(&mut builder)?;
    builder.commit_from_memory(file).map_err(unusable)
}

fn builder(environment: &'static Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_config_entry("session.intra_op.allow_spinning", "0")?;
    Ok(builder)
}

impl Sessions {
    /// The first ones, with what they take of a budget; others may join them until there are `most`.
    pub fn new(
        first: Vec<Session>,
        file: Bytes,
        execution: Execution,
        most: usize,
        share: Share,
    ) -> Arc<Self> {
        let count = first.len();
        Arc::new(Self {
            // Where nobody joins them, nobody needs it.
            file: if count < most { file } else { Bytes::new() },
            execution,
            most,
            idle: Mutex::new(first),
            turns: Arc::new(Semaphore::new(count)),
            opened: AtomicUsize::new(count),
            shares: Mutex::new(vec![share]),
        })
    }

    /// A session, if one is idle.
    pub fn try_take(self: &Arc<Self>) -> Option<Turn> {
        let permit = self.turns.clone().try_acquire_owned().ok()?;
        self.turn(permit)
    }

    /// A session, as soon as one is idle. Where none is, one more is opened for those who come later.
    pub async fn take(self: &Arc<Self>) -> Result<Turn, Status> {
        if let Some(turn) = self.try_take() {
            return Ok(turn);
        }
        self.grow();
        let permit = self.turns.clone().acquire_owned().await.ok();
        let turn = permit.and_then(|permit| self.turn(permit));
        turn.ok_or_else(|| Status::internal("no session is idle though it is this one's turn"))
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> u64 {
        self.shares().iter().map(Share::bytes).sum()
    }

    fn turn(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Option<Turn> {
        let session = self.idle().pop()?;
        Some(Turn {
            session: Some(session),
            sessions: self.clone(),
            permit: Some(permit),
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one more on a thread of its own, where the bounds allow it.
    fn grow(self: &Arc<Self>) {
        let counted = self
            .opened
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |opened| {
                (opened < self.most).then_some(opened + 1)
            });
        if counted.is_err() {
            return;
        }
        // Each takes as much as the first one.
        let Some(share) = self.shares().first().and_then(Share::another) else {
            self.opened.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let sessions = self.clone();
        tokio::task::spawn_blocking(move || match open(&sessions.file, &sessions.execution) {
            Ok(session) => sessions.add(session, share),
            Err(reason) => {
                sessions.opened.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(reason, "one more session of a model cannot be opened");
            }
        });
    }

    fn shares(&self) -> std::sync::MutexGuard<'_, Vec<Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, session: Session, share: Share) {
        self.shares().push(share);
        self.idle().push(session);
        self.turns.add_permits(1);
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.idle().clear();
        trim();
    }
}

impl Turn {
    /// The session.
    pub fn session(&mut self) -> Result<&mut Session, Status> {
        self.session
            .as_mut()
            .ok_or_else(|| Status::internal("no session"))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.sessions.idle().push(session);
        }
        // Only now: who gets the turn finds the session.
        drop(self.permit.take());
    }
}
