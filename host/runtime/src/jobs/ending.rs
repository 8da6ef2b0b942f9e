//! How a job ends, or is tried again: its row, its step, its checkpoints and the event that tells of it, in one unit.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::lease::{Lease, forgotten, place_of};
use super::{CHECKPOINTS, EndError, Job, Jobs, LEASES, LeaseLost, Phase, WAITING, spans};
use crate::effects::Draft;
use crate::records::{StepRecord, StepState};
use crate::store::{CommitError, Condition, Publication, StoreError};

/// Checkpoints of one job that are deleted at its end.
const MOST_CHECKPOINTS: usize = 1000;
/// The pause before a job whose worker failed is tried again, doubled with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Tries to cancel a job that changes hands meanwhile.
const TRIES: usize = 5;

/// Why a job was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is none.
    #[error("there is no job `{0}`")]
    Missing(String),
    /// It has ended already.
    #[error("job `{0}` has ended: it is {1}")]
    Ended(String, Phase),
    /// The store did not commit; try again.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for CancelError {
    fn from(error: StoreError) -> Self {
        Self::Commit(error.into())
    }
}

impl Jobs {
    /// Ends a job well: its outputs and its event commit together.
    pub async fn complete(&self, id: &str, token: &str, outputs: Value) -> Result<(), EndError> {
        let ((mut job, version), lease) = self.held_job(id, token).await?;
        job.phase = Phase::Succeeded;
        job.detail.clone_from(&outputs);
        let told = (job.emits.clone(), json!({ "outputs": outputs }));
        let draft = self.ending(&mut job, version, Some(&lease), told).await?;
        self.settle(draft, id).await?;
        self.tell_end(&job, Some(&lease));
        Ok(())
    }

    /// Ends an attempt in failure: the job is tried again where that makes sense, else it has failed.
    pub async fn fail(&self, id: &str, token: &str, reason: &str, retry: bool) -> Result<(), EndError> {
        let ((job, version), lease) = self.held_job(id, token).await?;
        if retry && job.attempt < job.terms.attempts() {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow((job.attempt - 1).min(10));
            return self
                .requeue(job, version, &lease, reason, pause.min(LONGEST_PAUSE))
                .await;
        }
        self.fail_for_good(job, version, &lease, reason).await
    }

    /// The worker is not there any more: the job is tried again at once, where that makes sense.
    pub async fn lose(&self, id: &str, token: &str, reason: &str) -> Result<(), EndError> {
        let ((job, version), lease) = self.held_job(id, token).await?;
        match job.attempt < job.terms.attempts() {
            true => self.requeue(job, version, &lease, reason, Duration::ZERO).await,
            false => self.fail_for_good(job, version, &lease, reason).await,
        }
    }

    async fn fail_for_good(
        &self,
        mut job: Job,
        version: u64,
        lease: &Lease,
        reason: &str,
    ) -> Result<(), EndError> {
        job.phase = Phase::Failed;
        job.detail = json!({ "reason": reason });
        let told = ("tidegate.job.failed".to_owned(), job.detail.clone());
        let draft = self.ending(&mut job, version, Some(lease), told).await?;
        self.settle(draft, &job.id).await?;
        self.tell_end(&job, Some(lease));
        Ok(())
    }

    /// Ends a job before its worker does, or before it has one. Its worker learns of it with its next call.
    pub async fn cancel(&self, id: &str) -> Result<Job, CancelError> {
        let mut refused = None;
        for _ in 0..TRIES {
            let found = Job::load_versioned(self.services.store.as_ref(), id).await?;
            let (mut job, version) = found.ok_or_else(|| CancelError::Missing(id.into()))?;
            if job.phase.is_end() {
                return Err(CancelError::Ended(id.into(), job.phase));
            }
            let lease = self.lease_of(id).await?.map(|(lease, _)| lease);
            job.phase = Phase::Cancelled;
            job.detail = json!({ "reason": "cancelled" });
            let told = ("tidegate.job.cancelled".to_owned(), job.detail.clone());
            let draft = self.ending(&mut job, version, lease.as_ref(), told).await?;
            match draft.commit().await {
                Ok(()) => {
                    self.hide(id);
                    self.tell_end(&job, lease.as_ref());
                    return Ok(job);
                }
                // It was leased, requeued or ended meanwhile: that is looked at again.
                Err(conflict @ CommitError::Conflict { .. }) => refused = Some(conflict),
                Err(error) => return Err(error.into()),
            }
        }
        Err(refused.map_or_else(|| CancelError::Missing(id.into()), Into::into))
    }

    /// The unit that ends a job, whose row has the version.
    async fn ending(
        &self,
        job: &mut Job,
        version: u64,
        lease: Option<&Lease>,
        (emits, told): (String, Value),
    ) -> Result<Draft<'_>, StoreError> {
        let now = self.services.clock.now_ms();
        job.finished = Some(now);
        let mut data = json!({ "job": job.id, "kind": job.kind, "config": job.config });
        if let (Some(data), Value::Object(told)) = (data.as_object_mut(), told) {
            data.extend(told);
        }
        let event = job.outcome(&emits, &data, now);
        let reason = job.reason().map(str::to_owned);
        let step = StepRecord {
            state: if reason.is_some() {
                StepState::Dead
            } else {
                StepState::Done
            },
            attempt: job.attempt,
            started: lease.map(|lease| lease.started),
            finished: Some(now),
            duration_ms: lease.map(|lease| now.saturating_sub(lease.started) as f64),
            span_id: job.span_id(),
            reason,
            emitted: vec![event.id.clone()],
            ..job.step()
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.state = vec![
            forgotten(LEASES, job.id.clone()),
            forgotten(WAITING, place_of(job)),
            job.write(Condition::Version(version)),
            step.into_write(&job.run),
        ];
        draft.unit.objects = self.forgotten_checkpoints(job).await?;
        draft.event(event, None);
        draft.part_ended(&job.event());
        Ok(draft)
    }

    async fn requeue(
        &self,
        mut job: Job,
        version: u64,
        lease: &Lease,
        reason: &str,
        pause: Duration,
    ) -> Result<(), EndError> {
        let attempted = job.clone();
        let now = self.services.clock.now_ms();
        job.phase = Phase::Queued;
        job.attempt += 1;
        job.detail = json!({ "reason": reason });
        let step = StepRecord {
            state: StepState::Retry,
            attempt: attempted.attempt,
            started: Some(lease.started),
            span_id: attempted.span_id(),
            reason: Some(reason.to_owned()),
            ..job.step()
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.state = vec![
            forgotten(LEASES, job.id.clone()),
            job.write(Condition::Version(version)),
            job.wait(now.saturating_add(pause.as_millis() as u64)),
            step.into_write(&job.run),
        ];
        self.settle(draft, &job.id).await?;
        self.services
            .spans()
            .record(|| spans::attempt(&attempted, (lease.started, now), &lease.worker, Some(reason)));
        self.tell(&job, None, |notice| notice.reason = Some(reason.to_owned()));
        Ok(())
    }

    /// Commits what ends a lease; where the job's row has changed, it was lost before.
    pub(super) async fn settle(&self, draft: Draft<'_>, id: &str) -> Result<(), EndError> {
        match draft.commit().await {
            Ok(()) => {
                self.hide(id);
                Ok(())
            }
            Err(CommitError::Conflict { .. } | CommitError::Lost { .. }) => Err(LeaseLost(id.into()).into()),
            Err(error) => Err(error.into()),
        }
    }

    fn tell_end(&self, job: &Job, lease: Option<&Lease>) {
        let finished = job.finished.unwrap_or_default();
        if let Some(lease) = lease {
            self.services
                .spans()
                .record(|| spans::attempt(job, (lease.started, finished), &lease.worker, job.reason()));
        }
        self.tell(job, None, |notice| {
            notice.duration_ms = lease.map(|lease| finished.saturating_sub(lease.started) as f64);
            notice.data = Some(job.detail.clone());
            notice.reason = job.reason().map(str::to_owned);
        });
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
}
