//! The workers that there are: what they take, and whether anybody takes a job that waits.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::terms::DEVICES;
use super::waiting::Ticket;
use super::{Jobs, Terms, WAITING, WORKERS, rows};
use crate::effects::Draft;
use crate::store::{CommitError, Condition, StateWrite, StoreError};

/// How often it is noted that a worker is there.
const NOTED: Duration = Duration::from_secs(20);
/// A worker that was not heard of for this long, and holds no job, is thought to be gone.
const GONE: Duration = Duration::from_secs(90);

/// A device of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu` or `cuda`.
    pub kind: String,
    /// Its memory; 0 where unknown.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// A worker, as it tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// The kinds of job that it takes.
    pub kinds: Vec<String>,
    /// Its devices; one that tells of none has a CPU.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Where it answers inference requests of any host, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether its process ends with this host's.
    #[serde(default)]
    pub child: bool,
}

impl Worker {
    pub(super) fn takes(&self, kind: &str) -> bool {
        self.kinds.iter().any(|taken| taken == kind)
    }

    /// Whether so many of its devices as a job needs are what it needs. Memory that is not known is thought to suffice.
    pub(super) fn has(&self, terms: &Terms) -> bool {
        let cpu = [Device {
            kind: "cpu".into(),
            memory_bytes: 0,
        }];
        let devices = if self.devices.is_empty() {
            &cpu[..]
        } else {
            &self.devices
        };
        let memory = terms.memory.unwrap_or(0);
        let fit = devices
            .iter()
            .filter(|device| device.memory_bytes == 0 || device.memory_bytes >= memory);
        let fit: Vec<&str> = fit.map(|device| device.kind.as_str()).collect();
        let needed = terms.devices.unwrap_or(1) as usize;
        let of_kind = |kind: &str| fit.iter().filter(|found| **found == kind).count() >= needed;
        match terms.device.as_deref() {
            Some(kind) => of_kind(kind),
            None => DEVICES.into_iter().any(of_kind),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Seen {
    worker: Worker,
    at: u64,
}

impl Jobs {
    /// Notes that a worker is there, unless that was noted a moment ago.
    pub async fn greet(&self, worker: &Worker) -> Result<(), StoreError> {
        let at = self.services.clock.now_ms();
        let fresh =
            |seen: &(u64, Worker)| at.saturating_sub(seen.0) < NOTED.as_millis() as u64 && seen.1 == *worker;
        if self.greeted().get(&worker.name).is_some_and(fresh) {
            return Ok(());
        }
        let seen = Seen {
            worker: worker.clone(),
            at,
        };
        let value = serde_json::to_vec(&seen).map_err(StoreError::new)?;
        self.write_worker(&worker.name, Some(value.into())).await?;
        let mut greeted = self.greeted();
        greeted.retain(|_, seen| at.saturating_sub(seen.0) < GONE.as_millis() as u64);
        greeted.insert(worker.name.clone(), (at, worker.clone()));
        Ok(())
    }

    async fn write_worker(&self, name: &str, value: Option<Bytes>) -> Result<(), StoreError> {
        let mut draft = Draft::new(&self.services);
        draft.unit.state.push(StateWrite {
            table: WORKERS.into(),
            key: name.into(),
            value,
            condition: Condition::None,
        });
        match draft.commit().await {
            Err(CommitError::Store(error)) => Err(error),
            // Without a condition it is refused only for a later note of the same.
            _ => Ok(()),
        }
    }

    /// The workers that are there; those that are gone are forgotten.
    pub async fn workers(&self) -> Result<Vec<Worker>, StoreError> {
        let now = self.services.clock.now_ms();
        let leases = self.leases().await?;
        let busy: BTreeSet<&str> = leases.iter().map(|(_, lease)| lease.worker.as_str()).collect();
        let mut workers = Vec::new();
        for (name, row) in rows(self.services.store.as_ref(), WORKERS).await? {
            let seen: Option<Seen> = serde_json::from_slice(&row.value).ok();
            let there = |seen: &Seen| {
                busy.contains(name.as_str()) || now.saturating_sub(seen.at) < GONE.as_millis() as u64
            };
            match seen.filter(there) {
                Some(seen) => workers.push(seen.worker),
                None => self.write_worker(&name, None).await?,
            }
        }
        Ok(workers)
    }

    /// The jobs that wait and that no worker takes, each with the reason.
    pub(super) async fn stuck(&self) -> Result<Vec<(String, String)>, StoreError> {
        let tickets = rows(self.services.store.as_ref(), WAITING).await?;
        if tickets.is_empty() {
            return Ok(Vec::new());
        }
        let workers = self.workers().await?;
        let tickets = tickets
            .iter()
            .filter_map(|(_, row)| Ticket::read(&row.value).ok());
        let stuck = tickets.filter_map(|ticket| Some((ticket.job.clone(), why_stuck(&ticket, &workers)?)));
        Ok(stuck.collect())
    }
}

/// Why none of the workers takes a job; none where one does.
fn why_stuck(ticket: &Ticket, workers: &[Worker]) -> Option<String> {
    if workers.iter().any(|worker| ticket.fits(worker)) {
        return None;
    }
    let kind = &ticket.kind;
    let taking: Vec<&Worker> = workers.iter().filter(|worker| worker.takes(kind)).collect();
    if taking.is_empty() {
        let kinds: BTreeSet<&str> = workers
            .iter()
            .flat_map(|worker| worker.kinds.iter().map(String::as_str))
            .collect();
        let offered = match kinds.is_empty() {
            true => "no worker is there".to_owned(),
            false => {
                let kinds: Vec<&str> = kinds.into_iter().collect();
                format!("the workers that are there take `{}`", kinds.join("`, `"))
            }
        };
        return Some(format!("no worker takes `{kind}`: {offered}"));
    }
    let device = ticket.terms.device.as_deref().unwrap_or("any");
    let number = ticket.terms.devices.filter(|devices| *devices > 1);
    let number = number
        .map(|devices| format!("{devices} times "))
        .unwrap_or_default();
    let memory = ticket
        .terms
        .memory
        .map(|memory| format!(" with {memory} bytes of memory"))
        .unwrap_or_default();
    let found: Vec<String> = taking.iter().map(|worker| shown(worker)).collect();
    Some(format!(
        "no worker that takes `{kind}` has the device that it needs, {number}`{device}`{memory}; found {}",
        found.join(", ")
    ))
}

fn shown(worker: &Worker) -> String {
    let devices = worker.devices.iter().map(|device| match device.memory_bytes {
        0 => format!("`{}`", device.kind),
        memory => format!("`{}` with {memory} bytes", device.kind),
    });
    format!("`{}`: {}", worker.name, devices.collect::<Vec<_>>().join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(device: &str, memory_bytes: u64) -> Worker {
        Worker {
            name: "w".into(),
            kinds: vec!["train.x".into()],
            devices: vec![Device {
                kind: device.into(),
                memory_bytes,
            }],
            address: None,
            child: false,
        }
    }

    fn ticket(kind: &str, device: Option<&str>, memory: Option<u64>) -> Ticket {
        Ticket {
            job: "j".into(),
            kind: kind.into(),
            tenant: String::new(),
            terms: Terms {
                device: device.map(Into::into),
                memory,
                ..Terms::default()
            },
            due: 0,
        }
    }

    #[test]
    fn a_job_fits_where_its_kind_its_device_and_its_memory_do() {
        let fits = |worker: Worker, device, memory| ticket("train.x", device, memory).fits(&worker);
        assert!(fits(worker("cpu", 8), None, None));
        assert!(fits(worker("cpu", 8), Some("cpu"), Some(8)));
        assert!(!fits(worker("cpu", 8), Some("cpu"), Some(9)));
        assert!(!fits(worker("cpu", 8), Some("cuda"), None));
        assert!(fits(worker("cuda", 0), Some("cuda"), Some(1 << 40)));
        assert!(!ticket("train.y", None, None).fits(&worker("cpu", 8)));
        let silent = Worker {
            devices: Vec::new(),
            ..worker("cpu", 0)
        };
        assert!(ticket("train.x", Some("cpu"), None).fits(&silent));
    }

    #[test]
    fn a_gang_fits_where_as_many_devices_of_one_kind_do() {
        let machine = |memories: &[u64]| {
            let mut machine = worker("cpu", 64);
            machine
                .devices
                .extend(memories.iter().map(|&memory_bytes| Device {
                    kind: "cuda".into(),
                    memory_bytes,
                }));
            machine
        };
        let gang = |device, memory| {
            let mut gang = ticket("train.x", device, memory);
            gang.terms.devices = Some(2);
            gang
        };
        assert!(gang(Some("cuda"), Some(24)).fits(&machine(&[24, 24])));
        assert!(gang(None, None).fits(&machine(&[24, 24])));
        assert!(!gang(Some("cuda"), Some(24)).fits(&machine(&[24, 16])));
        assert!(!gang(None, None).fits(&machine(&[24])));
        let told = why_stuck(&gang(Some("cuda"), None), &[machine(&[24])]).unwrap();
        assert!(
            told.contains("needs, 2 times `cuda`; found `w`: `cpu` with 64 bytes"),
            "{told}"
        );
    }

    #[test]
    fn what_nobody_takes_is_told_with_what_there_is() {
        let told = |ticket: Ticket, workers: &[Worker]| why_stuck(&ticket, workers);
        let there = [worker("cpu", 8)];
        assert_eq!(told(ticket("train.x", None, None), &there), None);
        let kind = told(ticket("train.y", None, None), &there).unwrap();
        assert!(
            kind.contains("no worker takes `train.y`") && kind.contains("take `train.x`"),
            "{kind}"
        );
        let device = told(ticket("train.x", Some("cuda"), Some(9)), &there).unwrap();
        assert!(
            device.contains("`cuda` with 9 bytes") && device.contains("`w`: `cpu` with 8 bytes"),
            "{device}"
        );
        let none = told(ticket("train.x", None, None), &[]).unwrap();
        assert!(none.contains("no worker is there"), "{none}");
    }
}
