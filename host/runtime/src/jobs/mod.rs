//! Jobs: long work that a function submits and a worker leases, reports on and completes.
//!
//! A job waits in the queue of its kind like any event. Its lease is held in memory and kept alive by
//! heartbeats; when it is lost, or the host dies, the job goes back to its queue. Completion settles the
//! delivery, writes the outcome and emits the event in one commit.

mod hold;
mod job;
mod spans;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub use self::job::{Job, Phase};

use self::job::queue;
use crate::effects::Draft;
use crate::records::{Notice, NoticeKind, Running, StepRecord, StepState};
use crate::services::Services;
use crate::store::{CommitError, Condition, Delivery, Order, Publication, StoreError};

/// The table of jobs.
pub const JOBS: &str = "$jobs";
/// The bucket in which workers keep what a later attempt goes on with, until the job has ended.
pub const CHECKPOINTS: &str = "tidegate-jobs";
/// Checkpoints of one job that are deleted at its end.
const MOST_CHECKPOINTS: usize = 1000;
/// How long a lease lives without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(15);
/// The attempts of a job, lost leases included.
const ATTEMPTS: u32 = 10;

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

/// The worker does not hold the job (any more).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lease of job `{0}` is lost: it ended, expired, or belongs to another worker")]
pub struct LeaseLost(pub String);

/// Why a job's end was not taken.
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

#[derive(Clone)]
struct Lease {
    token: String,
    worker: String,
    delivery: Delivery,
    job: Job,
    /// The version of the job's row: whoever writes it next ends the lease.
    version: u64,
    started: u64,
    expires: u64,
    /// Its step is shown as running.
    _shown: Arc<Running>,
}

/// The jobs of a platform, and who holds them.
pub struct Jobs {
    services: Arc<Services>,
    leases: Mutex<BTreeMap<String, Lease>>,
}

impl Jobs {
    /// Jobs over the shared parts.
    pub fn new(services: Arc<Services>) -> Arc<Self> {
        Arc::new(Self {
            services,
            leases: Mutex::default(),
        })
    }

    /// The same, and expired leases are looked for in the background.
    pub fn start(services: Arc<Services>) -> Arc<Self> {
        let jobs = Self::new(services.clone());
        let watched = jobs.clone();
        services.spawn(async move { watched.watch().await });
        jobs
    }

    /// Keeps a lease alive and shows progress; the answer is whether the worker should stop.
    pub fn heartbeat(&self, id: &str, token: &str, progress: Option<Value>) -> Result<bool, LeaseLost> {
        let mut leases = self.held();
        let lease = leases
            .get_mut(id)
            .filter(|lease| lease.token == token)
            .ok_or_else(|| LeaseLost(id.into()))?;
        lease.expires = self.services.clock.now_ms() + LEASE.as_millis() as u64;
        if let Some(progress) = progress {
            lease.job.detail = progress.clone();
            self.tell(&lease.job, Some(&lease.worker), |notice| {
                notice.kind = NoticeKind::Progress;
                notice.done = progress["done"].as_u64();
                notice.total = progress["total"].as_u64();
                notice.unit = progress["unit"].as_str().map(str::to_owned);
                notice.message = progress["message"].as_str().map(str::to_owned);
                notice.data = progress.get("metrics").cloned();
            });
        }
        Ok(false)
    }

    /// Ends a job well: its outputs and its event commit together.
    pub async fn complete(&self, id: &str, token: &str, outputs: Value) -> Result<(), EndError> {
        self.end(id, token, |job| {
            job.phase = Phase::Succeeded;
            job.detail = outputs.clone();
            let data = json!({ "job": job.id, "kind": job.kind, "config": job.config, "outputs": outputs });
            (job.emits.clone(), data)
        })
        .await
    }

    /// Ends an attempt in failure: the job is tried again where that makes sense, else it has failed.
    pub async fn fail(&self, id: &str, token: &str, reason: &str, retry: bool) -> Result<(), EndError> {
        let attempt = self.find(id, token)?.delivery.attempt;
        if retry && attempt < ATTEMPTS {
            return self.requeue(id, token, reason).await;
        }
        self.end(id, token, |job| {
            job.phase = Phase::Failed;
            job.detail = json!({ "reason": reason });
            let data = json!({ "job": job.id, "kind": job.kind, "config": job.config, "reason": reason });
            ("tidegate.job.failed".into(), data)
        })
        .await
    }

    /// Takes a job back that its worker never came to know of: the attempt does not count.
    pub async fn take_back(&self, id: &str, token: &str) -> Result<(), StoreError> {
        match self.release(id, token) {
            Some(lease) => {
                self.services
                    .store
                    .unclaim(std::slice::from_ref(&lease.delivery.receipt))
                    .await
            }
            None => Ok(()),
        }
    }

    /// The job that a lease token belongs to, for checks of access.
    pub fn scope(&self, token: &str) -> Option<Job> {
        self.held()
            .values()
            .find(|lease| lease.token == token)
            .map(|lease| lease.job.clone())
    }

    /// The latest jobs, those that run with their progress.
    pub async fn list(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        let page = self
            .services
            .store
            .query(JOBS, "", None, 1000, Order::Ascending)
            .await?;
        let mut jobs: Vec<Job> = page
            .entries
            .iter()
            .filter_map(|(_, row)| serde_json::from_slice(&row.value).ok())
            .collect();
        for job in &mut jobs {
            if let Some(lease) = self.held().get(&job.id) {
                *job = lease.job.clone();
            }
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.created));
        jobs.truncate(limit);
        Ok(jobs)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str, token: &str) -> Result<Lease, LeaseLost> {
        let leases = self.held();
        let lease = leases.get(id).filter(|lease| lease.token == token);
        lease.cloned().ok_or_else(|| LeaseLost(id.into()))
    }

    /// Commits what ends a lease, and forgets it; also where the store says that another did so before.
    async fn commit(&self, draft: Draft<'_>, id: &str, token: &str) -> Result<(), EndError> {
        let committed = draft.commit().await;
        if matches!(committed, Err(CommitError::Store(_))) {
            return Ok(committed?);
        }
        let mut leases = self.held();
        let ended = match leases.get(id) {
            Some(lease) if lease.token == token => leases.remove(id),
            _ => None,
        };
        drop(leases);
        if let Some(ended) = ended.filter(|_| committed.is_err()) {
            // Another delivery of the job went further: this one is settled when it is seen again.
            self.give_back(ended.delivery.receipt);
        }
        Ok(committed.map_err(|_| LeaseLost(id.into()))?)
    }

    async fn end(
        &self,
        id: &str,
        token: &str,
        ending: impl FnOnce(&mut Job) -> (String, Value),
    ) -> Result<(), EndError> {
        let Lease {
            mut job,
            delivery,
            started,
            version,
            worker,
            ..
        } = self.find(id, token)?;
        let attempt = delivery.attempt;
        let now = self.services.clock.now_ms();
        let (emits, data) = ending(&mut job);
        job.finished = Some(now);
        let event = job.outcome(&emits, &data, now);
        let failed = job.phase == Phase::Failed;
        let reason = failed.then(|| data["reason"].as_str().unwrap_or_default().to_owned());
        let step = StepRecord {
            state: if failed { StepState::Dead } else { StepState::Done },
            attempt,
            started: Some(started),
            finished: Some(now),
            duration_ms: Some(now.saturating_sub(started) as f64),
            span_id: job.span_id(),
            reason,
            emitted: vec![event.id.clone()],
            ..job.step()
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt);
        draft.unit.state.push(job.write(Condition::Version(version)));
        draft.unit.state.push(step.into_write(&job.run));
        draft.unit.objects = self.forgotten_checkpoints(&job).await?;
        draft.event(event, None);
        self.commit(draft, id, token).await?;
        let reason = failed.then(|| job.detail["reason"].as_str().unwrap_or_default());
        self.services
            .spans()
            .record(|| spans::attempt(&job, (started, now), &worker, reason));
        self.tell(&job, None, |notice| {
            notice.duration_ms = Some(now.saturating_sub(started) as f64);
            notice.data = Some(job.detail.clone());
            notice.reason = job.detail["reason"].as_str().map(str::to_owned);
        });
        Ok(())
    }

    async fn requeue(&self, id: &str, token: &str, reason: &str) -> Result<(), EndError> {
        let Lease {
            mut job,
            delivery,
            started,
            version,
            worker,
            ..
        } = self.find(id, token)?;
        let (attempt, span_id) = (delivery.attempt, job.span_id());
        job.phase = Phase::Queued;
        job.attempt = attempt + 1;
        job.detail = json!({ "reason": reason });
        let step = StepRecord {
            state: StepState::Retry,
            attempt,
            started: Some(started),
            span_id,
            reason: Some(reason.to_owned()),
            ..job.step()
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.settle.push(delivery.receipt);
        draft.unit.state.push(job.write(Condition::Version(version)));
        draft.unit.state.push(step.into_write(&job.run));
        draft.unit.enqueue.push(job.enqueue());
        self.commit(draft, id, token).await?;
        let attempted = Job {
            attempt,
            ..job.clone()
        };
        let times = (started, self.services.clock.now_ms());
        self.services
            .spans()
            .record(|| spans::attempt(&attempted, times, &worker, Some(reason)));
        self.tell(&job, None, |notice| notice.reason = Some(reason.to_owned()));
        Ok(())
    }

    /// Ends a lease. As soon as a job is queued again, another lease of it may be held.
    fn release(&self, id: &str, token: &str) -> Option<Lease> {
        match self.held().entry(id.to_owned()) {
            Entry::Occupied(lease) if lease.get().token == token => Some(lease.remove()),
            _ => None,
        }
    }

    /// What deletes the checkpoints of a job that goes on no more.
    async fn forgotten_checkpoints(&self, job: &Job) -> Result<Vec<Publication>, StoreError> {
        let prefix = job.checkpoints();
        let store = &self.services.store;
        let page = store.list(CHECKPOINTS, &prefix, None, MOST_CHECKPOINTS).await?;
        let deletion = |key| Publication {
            bucket: CHECKPOINTS.into(),
            key,
            staged: None,
            content_type: None,
            user: BTreeMap::new(),
            condition: Condition::None,
        };
        Ok(page
            .entries
            .into_iter()
            .map(|checkpoint| deletion(checkpoint.key))
            .collect())
    }

    /// Gives jobs back whose worker has gone silent.
    async fn watch(&self) {
        let stopping = self.services.stopping.clone();
        while stopping
            .run_until_cancelled(self.services.clock.sleep(Duration::from_secs(1)))
            .await
            .is_some()
        {
            let now = self.services.clock.now_ms();
            let lost: Vec<_> = self
                .held()
                .iter()
                .filter(|(_, lease)| lease.expires < now)
                .map(|(id, lease)| (id.clone(), lease.token.clone(), lease.worker.clone()))
                .collect();
            for (id, token, worker) in lost {
                let reason = format!("worker `{worker}` sent no heartbeat for {LEASE:?}");
                if let Err(error) = self.fail(&id, &token, &reason, true).await {
                    tracing::warn!(job = id, %error, "an expired lease is not given back yet");
                }
            }
        }
    }

    fn tell(&self, job: &Job, worker: Option<&str>, more: impl FnOnce(&mut Notice)) {
        self.services.records.tell(|| {
            let mut notice = Notice::about(&job.event(), NoticeKind::Job, self.services.clock.now_ms());
            notice.function = worker.map(str::to_owned);
            notice.attempt = Some(job.attempt);
            notice.subject = serde_json::to_value(job.phase)
                .ok()
                .and_then(|phase| phase.as_str().map(str::to_owned));
            more(&mut notice);
            notice
        });
    }
}
