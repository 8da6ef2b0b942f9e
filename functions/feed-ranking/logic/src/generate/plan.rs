//! When rows happen: by hour of the day and day of the week, in order.

use rand::{Rng, RngExt};

/// Monday 2026-01-05 00:00 UTC.
const START: i64 = 1_767_571_200;
const HOUR: i64 = 3_600;

/// How busy the feed is at each hour of a weekday.
const WEEKDAY: [f64; 24] = [
    0.9, 0.5, 0.3, 0.2, 0.2, 0.4, 1.0, 2.0, 2.6, 2.2, 2.0, 2.1, 2.8, 2.6, 2.1, 2.0, 2.2, 2.8, 3.4, 4.0, 4.4,
    4.2, 3.2, 1.9,
];
/// How busy it is at each hour of a Saturday or Sunday.
const WEEKEND: [f64; 24] = [
    1.6, 1.1, 0.7, 0.4, 0.3, 0.3, 0.5, 0.9, 1.7, 2.6, 3.3, 3.6, 3.7, 3.6, 3.5, 3.5, 3.6, 3.8, 4.2, 4.6, 4.7,
    4.4, 3.6, 2.5,
];

/// A moment, in the terms that habits have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) time: i64,
    pub(super) hour: usize,
    pub(super) weekend: bool,
}

/// The moments of all rows, in order.
pub(super) struct Hours {
    hours: i64,
    rows: u64,
    total: f64,
    hour: i64,
    passed: f64,
    given: u64,
    pending: Vec<i64>,
}

impl Hours {
    pub(super) fn new(days: u32, rows: u64) -> Self {
        let hours = i64::from(days) * 24;
        let total = (0..hours).map(weight).sum();
        Self {
            hours,
            rows,
            total,
            hour: 0,
            passed: 0.0,
            given: 0,
            pending: Vec::new(),
        }
    }

    /// The next moment; none at the end.
    pub(super) fn next(&mut self, rng: &mut impl Rng) -> Option<Moment> {
        while self.pending.is_empty() {
            if self.hour >= self.hours {
                return None;
            }
            self.open_hour(rng);
        }
        let time = self.pending.pop()?;
        let hour = (time - START) / HOUR;
        Some(Moment {
            time,
            hour: (hour % 24) as usize,
            weekend: weekend(hour),
        })
    }

    /// Gives the hour its share of the rows: by the running total, so that the shares add up exactly.
    fn open_hour(&mut self, rng: &mut impl Rng) {
        self.passed += weight(self.hour);
        let last = self.hour + 1 == self.hours;
        let due = if last {
            self.rows
        } else {
            (self.rows as f64 * self.passed / self.total) as u64
        };
        let begin = START + self.hour * HOUR;
        let count = due.saturating_sub(self.given);
        self.pending
            .extend((0..count).map(|_| begin + rng.random_range(0..HOUR)));
        self.pending.sort_unstable_by(|a, b| b.cmp(a));
        self.given += count;
        self.hour += 1;
    }
}

fn weekend(hour: i64) -> bool {
    (hour / 24) % 7 >= 5
}

fn weight(hour: i64) -> f64 {
    let by_hour = if weekend(hour) { &WEEKEND } else { &WEEKDAY };
    by_hour[(hour % 24) as usize]
}
