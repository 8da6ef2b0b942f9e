//! How much work there is for workers: what a pool of them is scaled by.

use std::collections::BTreeMap;

use super::terms::DEVICES;
use super::waiting::Ticket;
use super::{Jobs, WAITING, rows};
use crate::store::StoreError;

/// What jobs ask for that ask for no kind of device.
pub const ANY_DEVICE: &str = "any";

/// Jobs of one kind of device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many wait.
    pub waiting: u64,
    /// How many run.
    pub running: u64,
    /// The workers that have something to do, as each does one job at a time: of those that wait as many as their tenants may
    /// have run, and all that run.
    pub workers: u64,
}

impl Jobs {
    /// The jobs by the kind of device that they ask for, all kinds there are.
    pub async fn demand(&self) -> Result<BTreeMap<String, Demand>, StoreError> {
        let kinds = DEVICES.into_iter().chain([ANY_DEVICE]);
        let mut demands: BTreeMap<String, Demand> =
            kinds.map(|kind| (kind.to_owned(), Demand::default())).collect();
        let mut of = |device: Option<String>, count: &dyn Fn(&mut Demand)| {
            count(
                demands
                    .entry(device.unwrap_or_else(|| ANY_DEVICE.into()))
                    .or_default(),
            );
        };
        let mut tenants: BTreeMap<String, usize> = BTreeMap::new();
        for (_, lease) in self.leases().await? {
            *tenants.entry(lease.tenant).or_default() += 1;
            of(lease.device, &|demand| {
                demand.running += 1;
                demand.workers += 1;
            });
        }
        for (_, row) in rows(self.services.store.as_ref(), WAITING).await? {
            let ticket = Ticket::read(&row.value)?;
            let busy = tenants.entry(ticket.tenant.clone()).or_default();
            let may_run = *busy < self.limits.of_tenant(&ticket.tenant);
            *busy += 1;
            of(ticket.terms.device, &|demand| {
                demand.waiting += 1;
                demand.workers += u64::from(may_run);
            });
        }
        Ok(demands)
    }
}
