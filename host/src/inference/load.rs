//! How many requests are under way: now, and on average over the last while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was under way this long ago counts for 1/e of what is now.
const MEMORY: Duration = Duration::from_secs(30);
/// After this time without a request no worker is wanted for those to come.
const IDLE: Duration = Duration::from_secs(60);

/// The requests that are under way, those that wait for a worker included.
#[derive(Default)]
pub(super) struct Load(Mutex<Course>);

#[derive(Default)]
struct Course {
    under_way: u64,
    /// As it was when the last one came or went.
    mean: f64,
    /// When that was; none before the first one.
    at: Option<Instant>,
}

/// One that is under way.
pub(super) struct UnderWay<'a>(&'a Load);

impl Load {
    /// One more, until it is dropped.
    pub(super) fn enter(&self) -> UnderWay<'_> {
        self.course().change(Instant::now(), |count| count + 1);
        UnderWay(self)
    }

    /// How many there are now.
    pub(super) fn under_way(&self) -> u64 {
        self.course().under_way
    }

    /// The workers that are wanted, where one is to have so many requests.
    pub(super) fn workers(&self, requests: usize) -> u64 {
        self.course().workers(Instant::now(), requests)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0
            .course()
            .change(Instant::now(), |count| count.saturating_sub(1));
    }
}

impl Course {
    fn change(&mut self, now: Instant, count: impl Fn(u64) -> u64) {
        self.mean = self.mean_at(now);
        self.under_way = count(self.under_way);
        self.at = Some(now);
    }

    /// The mean decays towards what has been under way since the last change.
    fn mean_at(&self, now: Instant) -> f64 {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let old = (-since.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.mean * old + self.under_way as f64 * (1.0 - old)
    }

    fn workers(&self, now: Instant, requests: usize) -> u64 {
        let asked = self.at.is_some_and(|at| now.saturating_duration_since(at) < IDLE);
        if self.under_way == 0 && !asked {
            return 0;
        }
        let workers = (self.mean_at(now) / requests.max(1) as f64).ceil();
        (workers as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_wanted_by_what_is_under_way_on_average_and_none_after_a_minute_without() {
        let (mut course, begun) = (Course::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(course.workers(begun, 8), 0);
        for _ in 0..32 {
            course.change(begun, |count| count + 1);
        }
        assert_eq!(course.workers(begun, 8), 1);
        // 32 * (1 - 1/e) of them, and nearly all later.
        assert_eq!(course.workers(after(30), 8), 3);
        assert_eq!(course.workers(after(3000), 8), 4);
        for _ in 0..32 {
            course.change(after(3000), |count| count - 1);
        }
        assert_eq!(course.workers(after(3001), 8), 4);
        assert_eq!(course.workers(after(3030), 8), 2);
        assert_eq!(course.workers(after(3059), 1000), 1);
        assert_eq!(course.workers(after(3060), 8), 0);
    }
}
