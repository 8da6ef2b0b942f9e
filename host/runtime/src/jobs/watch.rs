//! What is looked after in the background: leases that ran out, jobs that took too long or that nobody takes, and
//! what is shown as running.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use super::lease::Lease;
use super::{EndError, Jobs, LEASE, job};
use crate::records::Running;
use crate::store::StoreError;

/// How often leases are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How many looks there are for one at the jobs that nobody takes.
const SELDOM: u32 = 10;

impl Jobs {
    pub(super) async fn watch(&self) {
        let stopping = self.services.stopping.clone();
        // A host that was away has heard no heartbeat meanwhile: it waits for one first.
        let trusted = self.services.clock.now_ms() + LEASE.as_millis() as u64;
        let mut told = BTreeSet::new();
        let mut look = 0_u32;
        let pause = || self.services.clock.sleep(EVERY);
        while stopping.run_until_cancelled(pause()).await.is_some() {
            if let Err(error) = self.look_after(trusted).await {
                tracing::warn!(%error, "leases are not looked at yet");
            }
            look = look.wrapping_add(1);
            if !look.is_multiple_of(SELDOM) {
                continue;
            }
            if let Err(error) = self.tell_stuck(&mut told).await {
                tracing::warn!(%error, "it is not known yet which jobs nobody takes");
            }
            if self.limits.told_in_queues
                && let Err(error) = self.tell_how_many().await
            {
                tracing::warn!(%error, "queues do not tell yet how many jobs there are");
            }
        }
    }

    async fn look_after(&self, trusted: u64) -> Result<(), StoreError> {
        let leases = self.leases().await?;
        self.show_all(&leases);
        let now = self.services.clock.now_ms();
        for (id, lease) in leases {
            let ended = if lease.deadline <= now {
                let reason = "it has taken as long as its `timeout` allows";
                self.fail(&id, &lease.token, reason, false).await
            } else if lease.expires < now && trusted <= now {
                let reason = format!("worker `{}` sent no heartbeat for {LEASE:?}", lease.worker);
                self.lose(&id, &lease.token, &reason).await
            } else {
                continue;
            };
            match ended {
                Ok(()) | Err(EndError::Lost(_)) => {}
                Err(error) => tracing::warn!(job = id, %error, "a lease is not ended yet"),
            }
        }
        Ok(())
    }

    /// Gives the jobs back of workers that ended with the host that was here before.
    pub async fn give_orphans_back(&self) -> Result<(), EndError> {
        for (id, lease) in self.leases().await? {
            if !lease.child {
                continue;
            }
            match self.take_back(&id, &lease.token).await {
                Ok(()) => tracing::info!(job = id, worker = lease.worker, "job given back: its host ended"),
                Err(EndError::Lost(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says once of each job that waits why nobody takes it.
    async fn tell_stuck(&self, told: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let stuck: BTreeMap<String, String> = self.stuck().await?.into_iter().collect();
        told.retain(|job| stuck.contains_key(job));
        for (job, reason) in stuck {
            if told.insert(job.clone()) {
                tracing::warn!(job, reason, "a job waits, and nobody takes it");
            }
        }
        Ok(())
    }

    /// Shows a job as running on this host.
    pub(super) fn show(&self, id: &str, lease: &Lease) {
        let records = &self.services.records;
        let step = job::step_of(&lease.kind);
        let shown = records.runs_now(id, &step, lease.attempt, lease.started);
        self.shown().insert(id.to_owned(), (lease.token.clone(), shown));
    }

    pub(super) fn hide(&self, id: &str) {
        self.shown().remove(id);
    }

    /// Shows what runs, whichever host gave it out.
    fn show_all(&self, leases: &[(String, Lease)]) {
        let tokens: BTreeMap<&str, &str> = leases
            .iter()
            .map(|(id, lease)| (id.as_str(), lease.token.as_str()))
            .collect();
        self.shown()
            .retain(|id, (token, _)| tokens.get(id.as_str()) == Some(&token.as_str()));
        for (id, lease) in leases {
            if !self.shown().contains_key(id) {
                self.show(id, lease);
            }
        }
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (String, Running)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
