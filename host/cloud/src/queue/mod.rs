//! Queues: an event is a row, and a message in SQS tells who may handle it.
//!
//! A host asks SQS for messages, claims the rows that they name, and keeps both from the others while the events are
//! handled ([`held`]). Of a host that went silent, the messages come to another one when their visibility runs out,
//! and with it the claims. Of one group only one event has a claim: the row of its lane names it ([`lanes`]).

mod anew;
mod batches;
mod claims;
mod depth;
mod handed;
mod held;
mod lanes;
mod line;
mod messages;
mod retired;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_runtime::store::Receipt;
use tokio::sync::Semaphore;

pub(crate) use self::batches::Batches;
pub use self::handed::Handed;
pub(crate) use self::held::Held;

use self::line::Line;

/// Calls for messages that wait at one time, each for the queue of one function's version; more take turns.
const POLLS: usize = 64;

/// The queues that this host knows, and what it holds of them.
pub(crate) struct Queues {
    lines: Mutex<HashMap<String, Arc<Line>>>,
    held: Mutex<HashMap<Receipt, Held>>,
    polls: Semaphore,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            held: Mutex::default(),
            polls: Semaphore::new(POLLS),
        }
    }
}

impl Queues {
    /// A queue by its name.
    fn line(&self, name: &str) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Line::new(name)));
        line.clone()
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.values().cloned().collect()
    }

    fn all_held(&self) -> MutexGuard<'_, HashMap<Receipt, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a receipt is of, as long as this host holds it.
    pub(crate) fn held(&self, receipt: &Receipt) -> Option<Held> {
        self.all_held().get(receipt).cloned()
    }
}
