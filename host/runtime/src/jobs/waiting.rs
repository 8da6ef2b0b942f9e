//! Jobs that wait: one row each, in the order in which they are leased.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::terms::PRIORITIES;
use super::workers::Worker;
use super::{Job, Terms, WAITING};
use crate::store::{Condition, StateWrite, StoreError};

/// What has to be known of a job to tell who may lease it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) job: String,
    pub(super) kind: String,
    pub(super) tenant: String,
    pub(super) terms: Terms,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub(super) due: u64,
}

impl Ticket {
    fn of(job: &Job, due: u64) -> Self {
        Self {
            job: job.id.clone(),
            kind: job.kind.clone(),
            tenant: job.tenant.clone(),
            terms: job.terms.clone(),
            due,
        }
    }

    pub(super) fn read(row: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(row).map_err(StoreError::new)
    }

    /// Whether a worker can do the job.
    pub(super) fn fits(&self, worker: &Worker) -> bool {
        worker.takes(&self.kind) && worker.has(&self.terms)
    }
}

/// The key under which a job waits: the highest priority first, then the oldest.
pub(super) fn key(job: &Job) -> String {
    let rank = PRIORITIES.end() - job.terms.priority;
    format!("{rank:03}/{:015}/{}", job.created, job.id)
}

impl Job {
    /// Has it wait for a worker, from a time on.
    pub fn wait(&self, due: u64) -> StateWrite {
        let ticket = serde_json::to_vec(&Ticket::of(self, due));
        StateWrite {
            table: WAITING.into(),
            key: key(self),
            value: Some(ticket.map(Bytes::from).unwrap_or_default()),
            condition: Condition::None,
        }
    }
}
