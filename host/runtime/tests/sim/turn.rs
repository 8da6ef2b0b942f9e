//! A plan that fails one call, the n-th, before or after it took effect; or ends the process there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tidegate_runtime::clock::Clock;
use tidegate_runtime::store::{CommitError, StoreError, Unit};
use tokio::sync::Notify;

use crate::faulty::{Moment, Plan};
use crate::ledger::Ledger;

/// What happens when the turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The call fails.
    Failure,
    /// The process ends.
    Crash,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The call, counted from 1; 0 is nobody's turn.
    pub call: u64,
    /// When it goes wrong.
    pub moment: Moment,
    /// How.
    pub blow: Blow,
}

/// The plan.
pub struct InTurn {
    turn: Turn,
    seen: AtomicU64,
    /// Told when the process shall end.
    pub crash: Notify,
    clock: Arc<dyn Clock>,
    ledger: Arc<Mutex<Ledger>>,
}

impl InTurn {
    /// A plan for one turn.
    pub fn new(turn: Turn, clock: Arc<dyn Clock>, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self {
            turn,
            seen: AtomicU64::new(0),
            crash: Notify::new(),
            clock,
            ledger,
        }
    }

    /// The calls so far.
    pub fn calls(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Plan for InTurn {
    async fn pass(&self, call: &'static str, moment: Moment, number: u64) -> Result<(), StoreError> {
        if number != self.turn.call || moment != self.turn.moment {
            return Ok(());
        }
        let now = self.clock.now_ms();
        let blow = self.turn.blow;
        self.ledger
            .lock()
            .unwrap()
            .story
            .push(format!("{now} {blow:?} of `{call}`, {moment:?}"));
        if blow == Blow::Crash {
            self.crash.notify_one();
            std::future::pending::<()>().await;
        }
        Err(StoreError(format!("`{call}` fails {moment:?}")))
    }

    fn number(&self) -> u64 {
        self.seen.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn committed(&self, unit: &Unit, answer: &Result<(), CommitError>) {
        let now = self.clock.now_ms();
        self.ledger.lock().unwrap().committed(now, unit, answer);
    }
}
