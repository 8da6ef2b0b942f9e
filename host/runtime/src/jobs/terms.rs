//! On which terms a job is done: what its submission may ask for, and what the host allows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What priorities there are; the highest goes first.
pub const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
/// The attempts of a job that does not say otherwise, lost leases included.
const ATTEMPTS: u32 = 10;
/// The attempts that a job may ask for.
const MOST_ATTEMPTS: u32 = 100;
/// The kinds of devices that there are.
pub(super) const DEVICES: [&str; 2] = ["cpu", "cuda"];
/// The devices that a job may ask for.
const MOST_DEVICES: u32 = 64;
/// The shortest and the longest time that a job may ask for.
const TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(30 * 24));

/// What a submission asks for, besides the work itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Jobs of a higher priority are leased first.
    #[serde(default)]
    pub priority: i32,
    /// The kind of device that a worker must have, `cpu` or `cuda`.
    pub device: Option<String>,
    /// The bytes of memory that such a device must have.
    pub memory: Option<u64>,
    /// How many such devices a worker must have; 1 otherwise.
    pub devices: Option<u32>,
    /// How long it may take from its first lease, in milliseconds, all attempts together.
    pub timeout_ms: Option<u64>,
    /// How often it is tried, lost leases included.
    pub attempts: Option<u32>,
}

impl Terms {
    /// Every mistake in them, in one text.
    pub fn check(&self) -> Result<(), String> {
        let mut mistakes = Vec::new();
        if !PRIORITIES.contains(&self.priority) {
            let (found, least, most) = (self.priority, PRIORITIES.start(), PRIORITIES.end());
            mistakes.push(format!(
                "`priority`: found {found}, allowed are {least} to {most}"
            ));
        }
        if let Some(device) = self.device.as_deref().filter(|device| !DEVICES.contains(device)) {
            let allowed = DEVICES.join("` and `");
            mistakes.push(format!("`device`: found `{device}`, allowed are `{allowed}`"));
        }
        if self.memory == Some(0) {
            mistakes.push("`memory`: found 0, allowed are bytes from 1".into());
        }
        if let Some(devices) = self
            .devices
            .filter(|devices| !(1..=MOST_DEVICES).contains(devices))
        {
            mistakes.push(format!(
                "`devices`: found {devices}, allowed are 1 to {MOST_DEVICES}"
            ));
        }
        let (shortest, longest) = TIMES;
        let timeout = self.timeout_ms.map(Duration::from_millis);
        if let Some(timeout) = timeout.filter(|timeout| !(shortest..=longest).contains(timeout)) {
            mistakes.push(format!(
                "`timeout`: found {timeout:?}, allowed are {shortest:?} to {longest:?}"
            ));
        }
        if let Some(attempts) = self
            .attempts
            .filter(|attempts| !(1..=MOST_ATTEMPTS).contains(attempts))
        {
            mistakes.push(format!(
                "`attempts`: found {attempts}, allowed are 1 to {MOST_ATTEMPTS}"
            ));
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(format!("job: {}", mistakes.join("; "))),
        }
    }

    /// How often the job is tried.
    pub fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(ATTEMPTS)
    }
}

/// What the host allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Jobs of one tenant that run at one time.
    pub per_tenant: usize,
    /// The same for single tenants.
    pub tenants: BTreeMap<String, usize>,
    /// How long a job may take that does not say so itself, from its first lease.
    pub timeout: Duration,
    /// Whether the queues `$jobs/KIND` tell how many jobs there are, for whoever counts them.
    pub told_in_queues: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_tenant: 64,
            tenants: BTreeMap::new(),
            timeout: Duration::from_hours(24),
            told_in_queues: false,
        }
    }
}

impl Limits {
    /// The jobs of a tenant that may run at one time.
    pub(super) fn of_tenant(&self, tenant: &str) -> usize {
        self.tenants.get(tenant).copied().unwrap_or(self.per_tenant)
    }

    /// How long a job may take.
    pub(super) fn timeout(&self, terms: &Terms) -> Duration {
        terms.timeout_ms.map_or(self.timeout, Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_at_once_with_what_is_allowed() {
        let terms = Terms {
            priority: 101,
            device: Some("tpu".into()),
            memory: Some(0),
            devices: Some(65),
            timeout_ms: Some(10),
            attempts: Some(0),
        };
        let told = terms.check().unwrap_err();
        for part in [
            "`priority`: found 101, allowed are -100 to 100",
            "`device`: found `tpu`, allowed are `cpu` and `cuda`",
            "`memory`: found 0",
            "`devices`: found 65, allowed are 1 to 64",
            "`timeout`: found 10ms, allowed are 1s to 2592000s",
            "`attempts`: found 0, allowed are 1 to 100",
        ] {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
        assert_eq!(Terms::default().check(), Ok(()));
    }
}
