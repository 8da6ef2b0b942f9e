//! The one home of time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

/// The longest sleep before the clock is read again, so that a clock that was set, or a machine that was
/// suspended, is noticed.
const STEP: Duration = Duration::from_secs(10);

/// Tells the time, and waits for it.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Returns when so much time has passed, whatever `now_ms` shows then.
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Returns when `now_ms` has reached `time`; at once where it has already.
    async fn sleep_until(&self, time: u64) {
        loop {
            let left = time.saturating_sub(self.now_ms());
            if left == 0 {
                return;
            }
            self.sleep(STEP.min(Duration::from_millis(left))).await;
        }
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_millis() as u64
    }
}

/// A clock that stands still until a test moves it.
#[cfg(test)]
pub struct ManualClock(tokio::sync::watch::Sender<u64>);

#[cfg(test)]
impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: u64) -> Self {
        Self(tokio::sync::watch::Sender::new(now))
    }

    /// Shows another time from now on, and wakes who waited for it.
    pub fn set(&self, now: u64) {
        self.0.send_replace(now);
    }

    /// The number of tasks that wait for a later time.
    pub fn sleepers(&self) -> usize {
        self.0.receiver_count()
    }
}

#[cfg(test)]
#[async_trait]
impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        *self.0.borrow()
    }

    async fn sleep_until(&self, time: u64) {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|now| *now >= time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_that_has_passed_is_not_waited_for() {
        SystemClock.sleep_until(0).await;
        let wait = SystemClock.sleep_until(SystemClock.now_ms() + 5);
        tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap();
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_their_time_has_come() {
        let clock = std::sync::Arc::new(ManualClock::new(10));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(30).await }
        });
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.set(29);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.set(31);
        sleeper.await.unwrap();
    }
}
