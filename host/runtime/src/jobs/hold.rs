//! Handing jobs out: a delivery becomes a lease, or it is one too many.

use std::sync::Arc;
use std::time::Duration;

use super::{Job, Jobs, LEASE, Lease, Leased, Phase, queue};
use crate::effects::Draft;
use crate::services::Services;
use crate::store::{CommitError, Delivery, Receipt, StoreError};

/// The pause before a delivery that could not be given back is tried again.
const PAUSE: Duration = Duration::from_millis(500);

impl Jobs {
    /// Hands out the next job of these kinds; waits up to `wait` for one.
    pub async fn lease(
        &self,
        worker: &str,
        kinds: &[String],
        wait: Duration,
    ) -> Result<Option<Leased>, StoreError> {
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
            Entered::Leased(leased) => {
                spare.keep();
                Ok(Some(*leased))
            }
            Entered::Same => {
                spare.keep();
                Ok(None)
            }
            Entered::Spare => spare.settle().await,
        }
    }

    /// Enters the lease, unless another worker has the job.
    fn enter(&self, worker: &str, delivery: &Delivery, job: Job, version: u64) -> Entered {
        let now = self.services.clock.now_ms();
        let mut leases = self.held();
        if let Some(other) = leases.get(&job.id)
            && other.delivery.attempt >= delivery.attempt
        {
            return if other.delivery.receipt == delivery.receipt {
                Entered::Same
            } else {
                Entered::Spare
            };
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
        leases.insert(job.id.clone(), lease);
        drop(leases);
        self.tell(&job, Some(worker), |_| {});
        Entered::Leased(Box::new(Leased {
            job,
            token,
            expires: LEASE,
        }))
    }
}

/// What became of a delivery that was to be a lease.
enum Entered {
    /// It is one.
    Leased(Box<Leased>),
    /// It is the very delivery that another worker holds.
    Same,
    /// Another worker holds the job by another delivery.
    Spare,
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
            let services = self.jobs.services.clone();
            let receipt = self.delivery.receipt.clone();
            self.jobs.services.spawn(give_back(services, receipt));
        }
    }
}

/// Gives a delivery back as soon as the store takes it.
async fn give_back(services: Arc<Services>, receipt: Receipt) {
    let receipts = [receipt];
    while let Err(error) = services.store.unclaim(&receipts).await {
        tracing::warn!(%error, "a job is not given back yet");
        let pause = services.clock.sleep(PAUSE);
        if services.stopping.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}
