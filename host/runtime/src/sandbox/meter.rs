//! How long a guest computes: the time inside the polls of the future that runs it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Adds up the time on a thread, and knows it while the thread is still at it.
pub(super) struct Meter {
    start: Instant,
    /// Nanoseconds of the polls that ended.
    spent: AtomicU64,
    /// When the poll that runs now began, in nanoseconds after `start`; 0 while none does.
    began: AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            spent: AtomicU64::new(0),
            began: AtomicU64::new(0),
        }
    }

    /// Runs a future, and measures each of its polls.
    pub(super) async fn measure<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            self.began.store(self.now().max(1), Relaxed);
            let polled = future.as_mut().poll(context);
            self.spent.fetch_add(self.running(), Relaxed);
            self.began.store(0, Relaxed);
            polled
        })
        .await
    }

    /// What was spent in polls that ended.
    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }

    /// What was spent, as seen from inside a poll.
    pub(super) fn spent_so_far(&self) -> Duration {
        self.spent() + Duration::from_nanos(self.running())
    }

    fn running(&self) -> u64 {
        match self.began.load(Relaxed) {
            0 => 0,
            began => self.now().saturating_sub(began),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_costs_nothing() {
        let meter = Meter::new();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(meter.spent_so_far(), Duration::ZERO);
    }

    #[tokio::test]
    async fn waiting_costs_nothing_and_computing_does() {
        let meter = Meter::new();
        meter.measure(tokio::time::sleep(Duration::from_millis(60))).await;
        assert!(meter.spent() < Duration::from_millis(30), "{:?}", meter.spent());
        meter
            .measure(async {
                std::thread::sleep(Duration::from_millis(40));
                assert!(meter.spent_so_far() >= Duration::from_millis(40));
            })
            .await;
        assert!(meter.spent() >= Duration::from_millis(40), "{:?}", meter.spent());
    }
}
