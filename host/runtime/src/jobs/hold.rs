//! Handing jobs out: a delivery becomes a lease, or it is one too many.

use std::sync::Arc;
use std::time::Duration;

use super::{Job, Jobs, LEASE, Lease, Leased, Phase, queue};
use crate::effects::Draft;
use crate::store::{CommitError, Delivery, Receipt, StoreError};

/// The pause before a delivery that could not be given back is tried again.
const PAUSE: Duration = Duration::from_millis(500);

impl Jobs {
    /// Hands out the next job of these kinds; waits up to `wait` for one. A worker that takes no kind at all only
    /// learns that its host is still there.
    pub async fn lease(
        &self,
        worker: &str,
        kinds: &[String],
        wait: Duration,
    ) -> Result<Option<Leased>, StoreError> {
        if kinds.is_empty() {
            self.services.clock.sleep(wait).await;
        }
        let share = wait / (kinds.len().max(1) as u32);
        for kind in kinds {
            let claimed = self.services.store.claim(&queue(kind), 1, share).await?;
            let mut spares = claimed.into_iter().map(|delivery| Spare::new(self, delivery));
            if let Some(spare) = spares.next()
                && let Some(leased) = self.hold(worker, spare).await?
            {
                return Ok(Some(leased));
            }
        }
        Ok(None)
    }

    /// Makes a delivery a lease; none where the job has ended, or is held or queued by a later one.
    async fn hold(&self, worker: &str, spare: Spare<'_>) -> Result<Option<Leased>, StoreError> {
        let id = spare.delivery.event.id.clone();
        let found = Job::load_versioned(self.services.store.as_ref(), &id).await?;
        let Some((mut job, version)) = found else {
            tracing::error!(job = id, "a job in the queue has no row");
            return spare.settle().await;
        };
        let ended = matches!(job.phase, Phase::Succeeded | Phase::Failed);
        if ended || job.attempt > spare.delivery.attempt {
            return spare.settle().await;
        }
        job.phase = Phase::Running;
        job.attempt = spare.delivery.attempt;
        match self.enter(worker, &spare.delivery, job, version) {
            Some(leased) => {
                spare.keep();
                Ok(Some(leased))
            }
            None => spare.settle().await,
        }
    }

    /// Gives a delivery back in the background, as soon as the store takes it.
    pub(super) fn give_back(&self, receipt: Receipt) {
        let services = self.services.clone();
        self.services.spawn(async move {
            let receipts = [receipt];
            while let Err(error) = services.store.unclaim(&receipts).await {
                tracing::warn!(%error, "a job is not given back yet");
                let pause = services.clock.sleep(PAUSE);
                if services.stopping.run_until_cancelled(pause).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Enters the lease, unless another worker has the job by another delivery. Whoever had it by this one has
    /// lost it: the store would not hand it out again.
    fn enter(&self, worker: &str, delivery: &Delivery, job: Job, version: u64) -> Option<Leased> {
        let now = self.services.clock.now_ms();
        let mut leases = self.held();
        let other = leases
            .get(&job.id)
            .filter(|other| other.delivery.receipt.seq != delivery.receipt.seq);
        if other.is_some_and(|other| other.delivery.attempt >= delivery.attempt) {
            return None;
        }
        let token = self.services.new_id();
        let step = job.step();
        let shown = self
            .services
            .records
            .runs_now(&step.event, &step.function, job.attempt, now);
        let lease = Lease {
            token: token.clone(),
            worker: worker.into(),
            delivery: delivery.clone(),
            job: job.clone(),
            version,
            started: now,
            expires: now + LEASE.as_millis() as u64,
            _shown: Arc::new(shown),
        };
        let before = leases.insert(job.id.clone(), lease);
        drop(leases);
        if let Some(before) = before.filter(|before| before.delivery.receipt != delivery.receipt) {
            // Settled or not, nobody holds it any more.
            self.give_back(before.delivery.receipt);
        }
        self.tell(&job, Some(worker), |_| {});
        Some(Leased {
            job,
            token,
            expires: LEASE,
        })
    }
}

/// A delivery that nobody holds yet. It goes back to its queue if nothing comes of it, also where the worker
/// that waited for it has gone.
struct Spare<'a> {
    jobs: &'a Jobs,
    delivery: Delivery,
    kept: bool,
}

impl<'a> Spare<'a> {
    fn new(jobs: &'a Jobs, delivery: Delivery) -> Self {
        Self {
            jobs,
            delivery,
            kept: false,
        }
    }

    /// Somebody holds it.
    fn keep(mut self) {
        self.kept = true;
    }

    /// Takes it out of its queue: it leads to nothing.
    async fn settle(mut self) -> Result<Option<Leased>, StoreError> {
        let mut draft = Draft::new(&self.jobs.services);
        draft.unit.settle.push(self.delivery.receipt.clone());
        match draft.commit().await {
            Err(CommitError::Store(error)) => Err(error),
            // Settled now or before: it is gone.
            _ => {
                self.kept = true;
                Ok(None)
            }
        }
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.jobs.give_back(self.delivery.receipt.clone());
        }
    }
}
