//! A seeded simulation of the dispatcher: thousands of random pipelines, each in its own storm.
//!
//! `cargo xtask sim` runs as many seeds as asked, or one again, through `TIDEGATE_SIM_SEEDS` and
//! `TIDEGATE_SIM_SEED`. A seed is a run: the same seed is the same story, poll for poll.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod every_call;
mod executor;
mod faulty;
mod flow;
mod guests;
mod invariants;
mod keys;
mod ledger;
mod pipeline;
mod process;
mod random;
mod scenario;
mod storm;
mod turn;
mod versions;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use scenario::simulate;

/// Seeds of a test run when nobody says how many.
const SEEDS: u64 = 3000;
/// Seeds after which it is told how far the run is.
const TOLD: u64 = 1000;
/// Failures that are shown in full.
const SHOWN: usize = 5;
/// What has to happen in thousands of seeds, or the simulation has lost its sting.
const KINDS: [&str; 30] = [
    "handled",
    "batches committed",
    "batches halved",
    "joins completed",
    "joins left open",
    "failed attempts",
    "dead letters",
    "conflicts",
    "second ends refused",
    "lost deliveries",
    "calls failed before",
    "calls failed after",
    "enqueued twice",
    "delivered twice",
    "crashes",
    "deployments",
    "handled by a version that drains",
    "drains",
    "long downtimes",
    "schedules fired",
    "jobs submitted and ended",
    "jobs leased",
    "jobs queued again",
    "jobs cancelled",
    "paused",
    "too old",
    "redriven",
    "dropped",
    "kept in order",
    "deferred",
];

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is `{text}`, expected a number")),
    )
}

#[test]
fn every_seed_keeps_every_invariant() {
    if let Some(seed) = asked("TIDEGATE_SIM_SEED") {
        let ledger = simulate(seed);
        println!("{}", ledger.story.join("\n"));
        assert!(
            ledger.violations.is_empty(),
            "seed {seed}: {:#?}",
            ledger.violations
        );
        return;
    }
    let seeds = asked("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS);
    let (counts, failed) = run(seeds);
    println!("{seeds} seeds: {counts:?}");
    for (seed, violations) in failed.iter().take(SHOWN) {
        println!("seed {seed}, again with `cargo xtask sim --seed {seed}`: {violations:#?}");
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds fail", failed.len());
    if seeds >= SEEDS {
        let missing: Vec<_> = KINDS.iter().filter(|kind| !counts.contains_key(*kind)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

type Failed = BTreeMap<u64, Vec<String>>;

/// Runs seeds on every core.
fn run(seeds: u64) -> (BTreeMap<&'static str, u64>, Failed) {
    let (next, totals, failed) = (AtomicU64::new(0), Mutex::default(), Mutex::new(Failed::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let ledger = simulate(seed);
            let mut totals: std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> = totals.lock().unwrap();
            for (what, count) in ledger.counts {
                *totals.entry(what).or_default() += count;
            }
            if (seed + 1).is_multiple_of(TOLD) {
                println!("{} of {seeds} seeds", seed + 1);
            }
            if !ledger.violations.is_empty() {
                println!("seed {seed} fails");
                failed.lock().unwrap().insert(seed, ledger.violations);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    (totals.into_inner().unwrap(), failed.into_inner().unwrap())
}

#[test]
fn a_seed_is_one_story() {
    for seed in [3, 1_000_003] {
        let (one, other) = (simulate(seed), simulate(seed));
        assert!(one.story.len() > 10, "seed {seed} is a short story");
        assert_eq!(one.story, other.story);
    }
}
