//! Who may call `/worker/v1`, and what the child worker holds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, StatusCode};
use tidegate_runtime::jobs::{EndError, Jobs};

use crate::api::error::ApiError;
use crate::api::guard;
use crate::config::WorkerConfig;
use crate::server::Peer;

/// Leases that the child worker may hold at one time, those that ended not yet forgotten included.
const CHILD_LEASES: usize = 64;

/// Who calls `/worker/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The process that this host started.
    Child,
    /// A worker from elsewhere, with the configured token.
    Other,
}

/// What workers present, and what the child worker holds: when its process ends, its jobs need not wait for
/// their leases to run out.
pub struct Credentials {
    child: String,
    other: Option<String>,
    /// Whether workers from elsewhere have to show a certificate as well.
    certified: bool,
    held: Mutex<VecDeque<(String, String)>>,
}

impl Credentials {
    /// A new token for the child; what others present is configured.
    pub fn new(config: &WorkerConfig) -> Self {
        let child = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        Self {
            child,
            other: config.token.clone(),
            certified: config.tls.is_some(),
            held: Mutex::default(),
        }
    }

    /// What the child is given.
    pub fn child_token(&self) -> &str {
        &self.child
    }

    /// Who sends a request.
    pub fn caller(&self, peer: Peer, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let known = std::iter::once(self.child.as_str()).chain(self.other.as_deref());
        match guard::bearer_among(known, headers) {
            Some(token) if token == self.child => Ok(Caller::Child),
            Some(_) if self.certified && !peer.certified => {
                let message = "`/worker/v1` takes workers with a certificate of `worker.ca_file`, and this one shows none";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, message))
            }
            Some(_) => Ok(Caller::Other),
            None => {
                let message = "`/worker/v1` takes `Authorization: Bearer` with the worker token";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, message))
            }
        }
    }

    pub(super) fn child_holds(&self, job: &str, token: &str) {
        let mut held = self.held();
        held.truncate(CHILD_LEASES - 1);
        held.push_front((job.to_owned(), token.to_owned()));
    }

    /// Whether the child holds a job; where the store does not tell, it does.
    pub async fn child_works(&self, jobs: &Jobs) -> bool {
        let held = self.held().clone();
        for (_, token) in held {
            if !matches!(jobs.scope(&token).await, Ok(None)) {
                return true;
            }
            self.held().retain(|(_, other)| *other != token);
        }
        false
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the child's jobs back, as its process has ended; where it was told to, that is no attempt of theirs.
    pub async fn child_ended(&self, jobs: &Jobs, told: bool) {
        let held = std::mem::take(&mut *self.held());
        for (job, token) in held {
            let given_back = match told {
                true => jobs.take_back(&job, &token).await,
                false => jobs.lose(&job, &token, "the worker process ended").await,
            };
            match given_back {
                Ok(()) => tracing::info!(job, "job given back"),
                Err(EndError::Lost(_)) => {}
                Err(error) => tracing::warn!(job, %error, "the job waits until its lease runs out"),
            }
        }
    }
}
