//! Leases: who holds which job. Each is a row, so that a worker may turn to any host of a store, and a host that starts
//! again knows who works.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::waiting::{self, Ticket};
use super::workers::Worker;
use super::{EndError, Job, Jobs, LEASE, LEASES, LeaseLost, Leased, MOST, PAGE, Phase, WAITING, rows};
use crate::effects::Draft;
use crate::records::NoticeKind;
use crate::store::{CommitError, Condition, Order, StateWrite, StoreError};

/// How long a worker waits at most until it is looked again for a job that another host took in.
const LOOK: Duration = Duration::from_secs(1);
/// Tries of a heartbeat beside others of the same lease.
const TRIES: usize = 3;

/// A job in a worker's hands, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) token: String,
    pub(super) worker: String,
    /// Whether the worker ends with its host.
    pub(super) child: bool,
    pub(super) tenant: String,
    pub(super) kind: String,
    /// The kind of device that the job asks for.
    #[serde(default)]
    pub(super) device: Option<String>,
    pub(super) attempt: u32,
    /// When this attempt began.
    pub(super) started: u64,
    /// When the lease ends without a heartbeat.
    pub(super) expires: u64,
    /// When the job has taken as long as it may.
    pub(super) deadline: u64,
    pub(super) progress: Value,
}

impl Lease {
    fn write(&self, job: &str, condition: Condition) -> StateWrite {
        let value = serde_json::to_vec(self).map(Bytes::from).unwrap_or_default();
        StateWrite {
            table: LEASES.into(),
            key: job.into(),
            value: Some(value),
            condition,
        }
    }
}

/// Forgets a job's lease, or its place among those that wait. Whoever changes hands of a job writes its row as well, and
/// the condition is there.
pub(super) fn forgotten(table: &str, key: String) -> StateWrite {
    StateWrite {
        table: table.into(),
        key,
        value: None,
        condition: Condition::None,
    }
}

impl Jobs {
    /// Hands out the next job that a worker can do; waits up to `wait` for one.
    pub async fn lease(&self, worker: &Worker, wait: Duration) -> Result<Option<Leased>, StoreError> {
        self.greet(worker).await?;
        let clock = &self.services.clock;
        let until = clock.now_ms().saturating_add(wait.as_millis() as u64);
        loop {
            let queued = self.services.queued_jobs.notified();
            if let Some(leased) = self.lease_now(worker).await? {
                return Ok(Some(leased));
            }
            let left = Duration::from_millis(until.saturating_sub(clock.now_ms()));
            if left.is_zero() {
                return Ok(None);
            }
            tokio::select! {
                biased;
                () = queued => {}
                () = clock.sleep(left.min(LOOK)) => {}
            }
        }
    }

    /// One worker of this host at a time: two that look at once would be after the same job.
    async fn lease_now(&self, worker: &Worker) -> Result<Option<Leased>, StoreError> {
        if worker.kinds.is_empty() {
            return Ok(None);
        }
        let _turn = self.turn.lock().await;
        let (store, now) = (&self.services.store, self.services.clock.now_ms());
        let (mut after, mut seen, mut running) = (None, 0, None);
        loop {
            let page = store
                .query(WAITING, "", after.as_deref(), PAGE, Order::Ascending)
                .await?;
            seen += page.entries.len();
            for (key, row) in page.entries {
                let ticket = Ticket::read(&row.value)?;
                if ticket.due > now || !ticket.fits(worker) {
                    continue;
                }
                if running.is_none() {
                    running = Some(self.running().await?);
                }
                let taken = running.as_ref().and_then(|running| running.get(&ticket.tenant));
                if taken.copied().unwrap_or(0) >= self.limits.of_tenant(&ticket.tenant) {
                    continue;
                }
                if let Some(leased) = self.take(worker, &ticket, key, row.version).await? {
                    return Ok(Some(leased));
                }
            }
            after = page.next;
            if after.is_none() || seen >= MOST {
                return Ok(None);
            }
        }
    }

    /// How many jobs of each tenant run.
    async fn running(&self) -> Result<BTreeMap<String, usize>, StoreError> {
        let mut running = BTreeMap::new();
        for (_, lease) in self.leases().await? {
            *running.entry(lease.tenant).or_default() += 1;
        }
        Ok(running)
    }

    /// Makes a job that waits a lease; none where another host was first.
    async fn take(
        &self,
        worker: &Worker,
        ticket: &Ticket,
        key: String,
        place: u64,
    ) -> Result<Option<Leased>, StoreError> {
        let found = Job::load_versioned(self.services.store.as_ref(), &ticket.job).await?;
        let Some((mut job, version)) = found else {
            tracing::error!(job = ticket.job, "a job that waits has no row");
            return Ok(None);
        };
        let now = self.services.clock.now_ms();
        job.phase = Phase::Running;
        let started = *job.started.get_or_insert(now);
        let timeout = self.limits.timeout(&job.terms).as_millis() as u64;
        let lease = Lease {
            token: format!("{}.{}", job.id, self.services.new_id()),
            worker: worker.name.clone(),
            child: worker.child,
            tenant: job.tenant.clone(),
            kind: job.kind.clone(),
            device: job.terms.device.clone(),
            attempt: job.attempt,
            started: now,
            expires: now + LEASE.as_millis() as u64,
            deadline: started.saturating_add(timeout),
            progress: job.detail.clone(),
        };
        let mut draft = Draft::new(&self.services);
        draft.unit.state = vec![
            StateWrite {
                condition: Condition::Version(place),
                ..forgotten(WAITING, key)
            },
            job.write(Condition::Version(version)),
            lease.write(&job.id, Condition::Absent),
        ];
        match draft.commit().await {
            Ok(()) => {}
            Err(CommitError::Store(error)) => return Err(error),
            Err(refused) => {
                tracing::debug!(job = job.id, %refused, "another host was first");
                return Ok(None);
            }
        }
        self.show(&job.id, &lease);
        self.tell(&job, Some(&worker.name), |_| {});
        Ok(Some(Leased {
            token: lease.token,
            expires: LEASE,
            job,
        }))
    }

    /// Keeps a lease alive, and keeps what its worker says of its progress.
    pub async fn heartbeat(&self, id: &str, token: &str, progress: Option<Value>) -> Result<(), EndError> {
        for _ in 0..TRIES {
            let (mut lease, version) = self.find(id, token).await?;
            lease.expires = self.services.clock.now_ms() + LEASE.as_millis() as u64;
            if let Some(progress) = &progress {
                lease.progress.clone_from(progress);
            }
            let mut draft = Draft::new(&self.services);
            draft
                .unit
                .state
                .push(lease.write(id, Condition::Version(version)));
            match draft.commit().await {
                Ok(()) => {
                    if let Some(progress) = progress {
                        self.tell_progress(id, &lease, &progress).await?;
                    }
                    return Ok(());
                }
                // Beside another heartbeat, or it has ended: that is looked at again.
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn tell_progress(&self, id: &str, lease: &Lease, progress: &Value) -> Result<(), StoreError> {
        if !self.services.records.is_followed() {
            return Ok(());
        }
        if let Some(job) = Job::load(self.services.store.as_ref(), id).await? {
            self.tell(&job, Some(&lease.worker), |notice| {
                notice.kind = NoticeKind::Progress;
                notice.done = progress["done"].as_u64();
                notice.total = progress["total"].as_u64();
                notice.unit = progress["unit"].as_str().map(str::to_owned);
                notice.message = progress["message"].as_str().map(str::to_owned);
                notice.data = progress.get("metrics").cloned();
            });
        }
        Ok(())
    }

    /// Takes a job back that its worker never came to know of, or lost with its host: the attempt does not count.
    pub async fn take_back(&self, id: &str, token: &str) -> Result<(), EndError> {
        let (mut job, version) = self.held_job(id, token).await?.0;
        job.phase = Phase::Queued;
        let mut draft = Draft::new(&self.services);
        draft.unit.state = vec![
            forgotten(LEASES, job.id.clone()),
            job.write(Condition::Version(version)),
            job.wait(self.services.clock.now_ms()),
        ];
        self.settle(draft, id).await
    }

    /// The job that a lease token belongs to, for checks of access.
    pub async fn scope(&self, token: &str) -> Result<Option<Job>, StoreError> {
        let Some((id, _)) = token.rsplit_once('.') else {
            return Ok(None);
        };
        match self.find(id, token).await {
            Ok(_) => Job::load(self.services.store.as_ref(), id).await,
            Err(EndError::Commit(CommitError::Store(error))) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The lease of a job, if this token is its own.
    async fn find(&self, id: &str, token: &str) -> Result<(Lease, u64), EndError> {
        let found = self.lease_of(id).await?;
        let own = found.filter(|(lease, _)| lease.token == token);
        Ok(own.ok_or_else(|| LeaseLost(id.into()))?)
    }

    /// The lease of a job, with the version of its row.
    pub(super) async fn lease_of(&self, id: &str) -> Result<Option<(Lease, u64)>, StoreError> {
        let Some(row) = self.services.store.get(LEASES, id).await? else {
            return Ok(None);
        };
        let lease = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
        Ok(Some((lease, row.version)))
    }

    /// A job and its lease. The job is read first: as soon as the lease changes hands, its row has another version.
    pub(super) async fn held_job(&self, id: &str, token: &str) -> Result<((Job, u64), Lease), EndError> {
        let job = Job::load_versioned(self.services.store.as_ref(), id).await?;
        let (lease, _) = self.find(id, token).await?;
        Ok((job.ok_or_else(|| LeaseLost(id.into()))?, lease))
    }

    /// All leases, by the ids of their jobs.
    pub(super) async fn leases(&self) -> Result<Vec<(String, Lease)>, StoreError> {
        let leases = rows(self.services.store.as_ref(), LEASES).await?;
        let leases = leases.into_iter().map(|(id, row)| {
            let lease = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
            Ok((id, lease))
        });
        leases.collect()
    }
}

/// The key under which a job waits, for those who end it before it is leased.
pub(super) fn place_of(job: &Job) -> String {
    waiting::key(job)
}
