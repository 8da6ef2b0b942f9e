//! Rates: how many invocations of a function may begin in a time.
//!
//! A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): all that is known of a rate is the time up
//! to which it is used up. An invocation moves that time on by one interval; it lies ahead of now by the burst at most.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::manifest::{Function, Rate};

const NANOS_PER_MS: u64 = 1_000_000;

/// What functions have used up of their rates, by name and rate: versions of a function that have the same share it.
///
/// One that was never seen before, as after a start of the host or a change, has no burst to begin with.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<(String, Rate), Meter>>);

/// Too many: not before this time, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBefore(pub u64);

/// The time up to which a rate is used up, in nanoseconds since the Unix epoch.
struct Meter(u64);

impl Rates {
    /// How many invocations of a function may begin now; or when the next one may.
    pub fn allowed(&self, function: &Function, now: u64) -> Result<u64, NotBefore> {
        let Some(rate) = &function.rate else {
            return Ok(u64::MAX);
        };
        self.with(function, rate, now, |meter| meter.allowed(rate, now))
    }

    /// Counts invocations that begin, also beyond the rate: later ones wait the longer.
    pub fn spend(&self, function: &Function, count: usize, now: u64) {
        if let Some(rate) = &function.rate {
            self.with(function, rate, now, |meter| meter.spend(rate, count as u64, now));
        }
    }

    /// Counts an invocation that begins, where it may; or tells when it may.
    pub fn begin(&self, function: &Function, now: u64) -> Result<(), NotBefore> {
        let Some(rate) = &function.rate else {
            return Ok(());
        };
        self.with(function, rate, now, |meter| {
            meter.allowed(rate, now).map(|_| meter.spend(rate, 1, now))
        })
    }

    fn with<T>(&self, function: &Function, rate: &Rate, now: u64, answer: impl FnOnce(&mut Meter) -> T) -> T {
        let mut all = self.lock();
        let of = (function.name.clone(), rate.clone());
        if !all.contains_key(&of) {
            // Of the rates that it had before, what is used up of them still counts, and no more.
            all.retain(|(name, _), meter| *name != function.name || meter.0 > nanos(now));
        }
        answer(all.entry(of).or_insert_with(|| Meter::new(rate, now)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Rate), Meter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    /// All is used up but one.
    fn new(rate: &Rate, now: u64) -> Self {
        Self(
            nanos(now)
                .saturating_add(burst(rate))
                .saturating_sub(interval(rate)),
        )
    }

    fn allowed(&self, rate: &Rate, now: u64) -> Result<u64, NotBefore> {
        let used = self.0.max(nanos(now));
        let ahead = nanos(now).saturating_add(burst(rate)).saturating_sub(used);
        match ahead / interval(rate) {
            0 => {
                let next = used.saturating_add(interval(rate)).saturating_sub(burst(rate));
                Err(NotBefore(next.div_ceil(NANOS_PER_MS)))
            }
            left => Ok(left),
        }
    }

    fn spend(&mut self, rate: &Rate, count: u64, now: u64) {
        let more = interval(rate).saturating_mul(count);
        self.0 = self.0.max(nanos(now)).saturating_add(more);
    }
}

fn nanos(millis: u64) -> u64 {
    millis.saturating_mul(NANOS_PER_MS)
}

/// Nanoseconds of one invocation.
fn interval(rate: &Rate) -> u64 {
    (rate.per.as_nanos() as u64 / u64::from(rate.limit)).max(1)
}

/// Nanoseconds of as many as may begin at once.
fn burst(rate: &Rate) -> u64 {
    interval(rate).saturating_mul(u64::from(rate.burst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    const NOW: u64 = 1_700_000_000_000;

    fn function(rate: &str) -> Function {
        let text = format!(
            "[app]\nname = \"a\"\n[[function]]\nname = \"f\"\ncomponent = \"f.wasm\"\nrate = {{ {rate} }}\n"
        );
        Manifest::parse(&text, "t").unwrap().functions.remove(0)
    }

    /// How many of many begin at once.
    fn begun(rates: &Rates, function: &Function, now: u64) -> usize {
        (0..100).filter(|_| rates.begin(function, now).is_ok()).count()
    }

    #[test]
    fn a_burst_begins_at_once_and_the_rest_at_the_rate() {
        let (rates, function) = (Rates::default(), function("limit = 10, per = \"1s\", burst = 3"));
        rates.spend(&function, 1, NOW - 60_000);
        assert_eq!(rates.allowed(&function, NOW), Ok(3));
        assert_eq!(begun(&rates, &function, NOW), 3);
        assert_eq!(rates.allowed(&function, NOW), Err(NotBefore(NOW + 100)));
        assert_eq!(rates.begin(&function, NOW + 99), Err(NotBefore(NOW + 100)));
        let second = (1..=1000).map(|ms| begun(&rates, &function, NOW + ms));
        assert_eq!(second.sum::<usize>(), 10);
        assert_eq!(begun(&rates, &function, NOW + 60_000), 3);
    }

    #[test]
    fn a_start_has_no_burst() {
        let (rates, function) = (Rates::default(), function("limit = 10, per = \"1s\""));
        assert_eq!(begun(&rates, &function, NOW), 1);
        assert_eq!(begun(&rates, &function, NOW + 300), 3);
        assert_eq!(begun(&rates, &function, NOW + 60_000), 10);
    }

    #[test]
    fn what_begins_beyond_the_rate_is_waited_for_later() {
        let (rates, function) = (Rates::default(), function("limit = 10, per = \"1s\", burst = 1"));
        rates.spend(&function, 5, NOW);
        assert_eq!(rates.allowed(&function, NOW), Err(NotBefore(NOW + 500)));
        assert_eq!(rates.allowed(&function, NOW + 500), Ok(1));
    }

    #[test]
    fn versions_with_one_rate_share_it_and_a_changed_one_begins_anew() {
        let (rates, slow) = (Rates::default(), function("limit = 1, per = \"1h\""));
        let next = Function {
            version: 2,
            ..slow.clone()
        };
        assert_eq!((begun(&rates, &slow, NOW), begun(&rates, &next, NOW)), (1, 0));
        let changed = function("limit = 2, per = \"1h\"");
        assert_eq!(begun(&rates, &changed, NOW), 1);
        assert_eq!(begun(&rates, &changed, NOW), 0);
        assert_eq!(begun(&rates, &slow, NOW), 0);
    }
}
