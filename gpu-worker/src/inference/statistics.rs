//! What a model's requests took, as the protocol's statistics extension counts it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::proto::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

/// Sizes of batches that are told apart; larger ones count as the largest.
const SIZES: usize = 256;

/// The counts of one version of a model.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Counts>);

#[derive(Debug, Default, Clone)]
struct Counts {
    last: u64,
    rows: u64,
    executions: u64,
    success: Times,
    fail: Times,
    queue: Times,
    compute: Times,
    batches: BTreeMap<u64, Times>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Times {
    count: u64,
    ns: u64,
}

impl Times {
    fn add(&mut self, count: u64, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count += count;
        self.ns = self.ns.saturating_add(ns);
    }

    fn told(self) -> Option<StatisticDuration> {
        Some(StatisticDuration {
            count: self.count,
            ns: self.ns,
        })
    }
}

impl Statistics {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answered request.
    pub fn answered(&self, success: bool, took: Duration) {
        let mut counts = self.counts();
        let times = if success {
            &mut counts.success
        } else {
            &mut counts.fail
        };
        times.add(1, took);
    }

    /// Counts the time that a request waited.
    pub fn waited(&self, took: Duration) {
        self.counts().queue.add(1, took);
    }

    /// Counts a run of the model on so many rows of so many requests.
    pub fn ran(&self, rows: usize, requests: usize, took: Duration) {
        let mut counts = self.counts();
        counts.last = now_ms();
        counts.rows += rows as u64;
        counts.executions += 1;
        counts.compute.add(requests as u64, took);
        let size = rows.min(SIZES) as u64;
        counts.batches.entry(size).or_default().add(1, took);
    }

    /// The counts as the protocol has them.
    pub fn told(&self, name: &str, version: &str) -> ModelStatistics {
        let counts = self.counts().clone();
        let batch = |(size, times): (u64, Times)| InferBatchStatistics {
            batch_size: size,
            compute_infer: times.told(),
            ..Default::default()
        };
        ModelStatistics {
            name: name.to_owned(),
            version: version.to_owned(),
            last_inference: counts.last,
            inference_count: counts.rows,
            execution_count: counts.executions,
            inference_stats: Some(InferStatistics {
                success: counts.success.told(),
                fail: counts.fail.told(),
                queue: counts.queue.told(),
                compute_infer: counts.compute.told(),
                ..Default::default()
            }),
            batch_stats: counts.batches.into_iter().map(batch).collect(),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
