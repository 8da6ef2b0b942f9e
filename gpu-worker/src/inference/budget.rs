//! The memory that models may take together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a model that is to be loaded waits for others that are unloaded but still answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is counted, in bytes.
const UNIT: u64 = 1024;

/// Bytes that are shared out.
#[derive(Debug, Clone)]
pub struct Budget {
    most: u64,
    units: Arc<Semaphore>,
}

/// Some of the bytes, which come back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
    _units: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(most: u64) -> Self {
        let units = usize::try_from(most / UNIT).unwrap_or(usize::MAX);
        Self {
            most,
            units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// All of its bytes.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// The bytes that nobody has.
    pub fn left(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT
    }

    /// Takes bytes, if there are as many.
    pub fn try_take(&self, bytes: u64) -> Option<Share> {
        let units = self.units.clone().try_acquire_many_owned(units(bytes)?).ok()?;
        Some(self.share(bytes, units))
    }

    /// Takes bytes as soon as there are as many.
    pub async fn take(&self, bytes: u64) -> Option<Share> {
        let taking = self.units.clone().acquire_many_owned(units(bytes)?);
        let taken = tokio::time::timeout(PATIENCE, taking).await;
        Some(self.share(bytes, taken.ok()?.ok()?))
    }

    fn share(&self, bytes: u64, units: OwnedSemaphorePermit) -> Share {
        Share {
            budget: self.clone(),
            bytes,
            _units: units,
        }
    }
}

fn units(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT)).ok()
}

impl Share {
    /// How many there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As many again, if there are.
    pub fn another(&self) -> Option<Self> {
        self.budget.try_take(self.bytes)
    }
}

/// The memory that this process has, in bytes; 0 where the system does not tell.
pub fn resident() -> u64 {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = told.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Bytes of a page, on all machines that this is built for.
const PAGE: u64 = 4096;

/// Gives what was freed back to the system, as far as the C library lets go of it: ONNX Runtime's memory is its own.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_and_never_more_are_out_than_there_are() {
        let budget = Budget::new(10 * UNIT);
        let first = budget.try_take(6 * UNIT).unwrap();
        assert!(first.another().is_none());
        assert!(budget.try_take(u64::MAX).is_none());
        let second = budget.try_take(3 * UNIT + 1).unwrap();
        assert_eq!(budget.left(), 0);
        let waiting = budget.take(10 * UNIT);
        drop((first, second));
        assert_eq!(waiting.await.unwrap().bytes(), 10 * UNIT);
        assert_eq!(budget.left(), 10 * UNIT);
        assert!(resident() > 0);
    }
}
