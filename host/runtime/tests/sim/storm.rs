//! The weather of a simulation: calls that fail, before or after they took effect, that take their time, that
//! deliver twice, and out of order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_runtime::clock::Clock;
use tidegate_runtime::store::{CommitError, Delivery, StoreError, Unit};

use crate::faulty::{Moment, Plan};
use crate::ledger::Ledger;
use crate::random::Random;

/// A plan that luck makes, until it is calmed.
pub struct Storm {
    clock: Arc<dyn Clock>,
    dice: Mutex<Random>,
    ledger: Arc<Mutex<Ledger>>,
    calm: AtomicBool,
    rates: Rates,
}

/// How often what goes wrong, in a thousand calls.
struct Rates {
    before: u64,
    after: u64,
    slow: u64,
    enqueued_twice: u64,
    delivered_twice: u64,
}

impl Storm {
    /// The weather of a seed.
    pub fn of(seed: u64, clock: Arc<dyn Clock>, ledger: Arc<Mutex<Ledger>>) -> Self {
        let mut dice = Random::of(seed, "storm");
        let mut rate = |most| if dice.once_in(250) { 0 } else { dice.below(most) };
        let rates = Rates {
            before: rate(120),
            after: rate(120),
            slow: rate(300),
            enqueued_twice: rate(100),
            delivered_twice: rate(100),
        };
        Self {
            clock,
            dice: Mutex::new(dice),
            ledger,
            calm: AtomicBool::new(false),
            rates,
        }
    }

    /// Nothing goes wrong from now on.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    fn luck(&self, per_mille: u64) -> bool {
        !self.calm.load(Ordering::Relaxed) && self.dice.lock().unwrap().once_in(per_mille)
    }

    fn below(&self, bound: usize) -> usize {
        self.dice.lock().unwrap().below(bound as u64) as usize
    }

    fn count(&self, what: &'static str) {
        self.ledger.lock().unwrap().count(what);
    }
}

#[async_trait]
impl Plan for Storm {
    async fn pass(&self, call: &'static str, moment: Moment, _number: u64) -> Result<(), StoreError> {
        if self.luck(self.rates.slow) {
            let pause = 1 + self.below(200) as u64;
            self.clock.sleep(Duration::from_millis(pause)).await;
        }
        let (rate, what) = match moment {
            Moment::Before => (self.rates.before, "calls failed before"),
            Moment::After => (self.rates.after, "calls failed after"),
        };
        if self.luck(rate) {
            self.count(what);
            return Err(StoreError(format!("`{call}` fails {moment:?}")));
        }
        Ok(())
    }

    fn alter(&self, unit: &mut Unit) {
        for nth in 0..unit.enqueue.len() {
            if self.luck(self.rates.enqueued_twice) {
                self.count("enqueued twice");
                let again = unit.enqueue[nth].clone();
                unit.enqueue.push(again);
            }
        }
    }

    fn committed(&self, unit: &Unit, answer: &Result<(), CommitError>) {
        let now = self.clock.now_ms();
        let mut ledger = self.ledger.lock().unwrap();
        ledger.committed(now, unit, answer);
        if answer.is_ok() {
            ledger.expect_whole_joins(unit);
        }
    }

    fn claimed(&self, deliveries: &mut Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        if self.luck(self.rates.delivered_twice) {
            let again = deliveries[self.below(deliveries.len())].clone();
            // A queue that has groups delivers a group's events one at a time, or it has none.
            if again.group.is_none() {
                self.count("delivered twice");
                deliveries.push(again);
            }
        }
        if !self.calm.load(Ordering::Relaxed) {
            let (one, other) = (self.below(deliveries.len()), self.below(deliveries.len()));
            deliveries.swap(one, other);
        }
    }
}
