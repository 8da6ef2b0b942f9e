//! Jobs: long work that a function submits and a worker leases, reports on and completes.
//!
//! All of it are rows. A job waits in a list that all hosts of a store share, the highest priority first; to lease it is
//! to move it, in one unit, from there to the leases, which heartbeats keep alive. A lease that is lost goes back.
//! Whoever changes hands of a job writes its row under its version: so a job is held once, and ends once. Its end
//! writes the outcome and emits the event in one commit.

mod beacon;
mod demand;
mod ending;
mod job;
mod lease;
mod spans;
mod terms;
mod waiting;
mod watch;
mod workers;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

pub use self::demand::{ANY_DEVICE, Demand};
pub use self::ending::CancelError;
pub use self::job::{Job, Phase};
pub use self::terms::{Limits, PRIORITIES, Terms};
pub use self::workers::{Device, Worker};

use crate::records::{Notice, NoticeKind, Running};
use crate::services::Services;
use crate::store::{CommitError, Order, Store, StoreError, Versioned};

/// The table of jobs.
pub const JOBS: &str = "$jobs";
/// The table of jobs that wait, in the order in which they are leased.
pub const WAITING: &str = "$jobs.waiting";
/// The table of leases, by job.
pub const LEASES: &str = "$jobs.leases";
/// The table of workers.
const WORKERS: &str = "$jobs.workers";
/// The bucket in which workers keep what a later attempt goes on with, until the job has ended.
pub const CHECKPOINTS: &str = "tidegate-jobs";
/// How long a lease lives without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(15);
/// Rows that are read at one time.
const PAGE: usize = 1000;
/// Jobs that wait, leases and workers that are looked at in all.
const MOST: usize = 10_000;

/// A job in a worker's hands.
#[derive(Debug, Clone, Serialize)]
pub struct Leased {
    /// The job.
    pub job: Job,
    /// What proves that the worker holds it.
    pub token: String,
    /// How long the lease lives without a heartbeat.
    pub expires: Duration,
}

/// A job as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The job; while it runs, its detail is its progress.
    #[serde(flatten)]
    pub job: Job,
    /// The worker that holds it.
    pub worker: Option<String>,
    /// Why no worker takes it.
    pub stuck: Option<String>,
}

/// The worker does not hold the job (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lease of job `{0}` is lost: it ended, was cancelled, expired, or belongs to another worker")]
pub struct LeaseLost(pub String);

/// Why a worker's word on a job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The worker does not hold the job.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// The store did not commit; try again.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for EndError {
    fn from(error: StoreError) -> Self {
        Self::Commit(error.into())
    }
}

/// The jobs of a platform, and who holds them.
pub struct Jobs {
    services: Arc<Services>,
    limits: Limits,
    /// Whose turn it is to look for a job.
    turn: tokio::sync::Mutex<()>,
    /// When workers were noted, and what as.
    greeted: Mutex<HashMap<String, (u64, Worker)>>,
    /// What is shown as running, with the token of its lease.
    shown: Mutex<BTreeMap<String, (String, Running)>>,
}

impl Jobs {
    /// Jobs over the shared parts.
    pub fn new(services: Arc<Services>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            services,
            limits,
            turn: tokio::sync::Mutex::default(),
            greeted: Mutex::default(),
            shown: Mutex::default(),
        })
    }

    /// The same, and leases are looked after in the background.
    pub fn start(services: Arc<Services>, limits: Limits) -> Arc<Self> {
        let jobs = Self::new(services.clone(), limits);
        let watched = jobs.clone();
        services.spawn(async move { watched.watch().await });
        jobs
    }

    /// The latest jobs, those that run with their progress.
    pub async fn list(&self, limit: usize) -> Result<Vec<Shown>, StoreError> {
        let rows = rows(self.services.store.as_ref(), JOBS).await?;
        let mut jobs: Vec<Job> = rows
            .iter()
            .filter_map(|(_, row)| serde_json::from_slice(&row.value).ok())
            .collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created));
        jobs.truncate(limit);
        self.shown_as_they_are(jobs).await
    }

    /// Whether a job waits for a worker.
    pub async fn any_waits(&self) -> Result<bool, StoreError> {
        let store = &self.services.store;
        let page = store.query(WAITING, "", None, 1, Order::Ascending).await?;
        Ok(!page.entries.is_empty())
    }

    /// One job.
    pub async fn one(&self, id: &str) -> Result<Option<Shown>, StoreError> {
        let found = Job::load(self.services.store.as_ref(), id).await?;
        Ok(self.shown_as_they_are(found.into_iter().collect()).await?.pop())
    }

    async fn shown_as_they_are(&self, jobs: Vec<Job>) -> Result<Vec<Shown>, StoreError> {
        let leases: BTreeMap<_, _> = self.leases().await?.into_iter().collect();
        let waits = jobs.iter().any(|job| job.phase == Phase::Queued);
        let stuck = if waits { self.stuck().await? } else { Vec::new() };
        let mut stuck: BTreeMap<String, String> = stuck.into_iter().collect();
        let shown = jobs.into_iter().map(|mut job| {
            let lease = leases.get(&job.id).filter(|_| job.phase == Phase::Running);
            if let Some(lease) = lease {
                job.detail.clone_from(&lease.progress);
            }
            Shown {
                worker: lease.map(|lease| lease.worker.clone()),
                stuck: stuck.remove(&job.id),
                job,
            }
        });
        Ok(shown.collect())
    }

    fn greeted(&self) -> MutexGuard<'_, HashMap<String, (u64, Worker)>> {
        self.greeted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, job: &Job, worker: Option<&str>, more: impl FnOnce(&mut Notice)) {
        self.services.records.tell(|| {
            let mut notice = Notice::about(&job.event(), NoticeKind::Job, self.services.clock.now_ms());
            notice.function = worker.map(str::to_owned);
            notice.attempt = Some(job.attempt);
            notice.subject = Some(job.phase.to_string());
            more(&mut notice);
            notice
        });
    }
}

/// All rows of a table, up to [`MOST`].
async fn rows(store: &dyn Store, table: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .query(table, "", after.as_deref(), PAGE, Order::Ascending)
            .await?;
        rows.extend(page.entries);
        after = page.next;
        if after.is_none() || rows.len() >= MOST {
            return Ok(rows);
        }
    }
}
