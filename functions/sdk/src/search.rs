//! Hyper-parameters: a space to draw them from, and successive halving, which trains many a little and the best for longer.
//!
//! ```
//! use tidegate_sdk::search::{Halving, Space};
//!
//! let space = Space::new()
//!     .log_uniform("learning_rate", 1e-4, 1e-1)
//!     .uniform("dropout", 0.0, 0.5)
//!     .integer("max_depth", 2, 8)
//!     .choice("hidden", [vec![64], vec![128, 64]]);
//! let samples = space.samples(9, 42);
//! let halving = Halving { trials: 9, eta: 3, rungs: 3, least: 2 };
//! assert_eq!(samples.len(), 9);
//! // Nine with 2 epochs each, the best three with 6, the best one with 18.
//! let rungs: Vec<_> = (0..3).map(|rung| (halving.trials_of(rung), halving.resource_of(rung))).collect();
//! assert_eq!(rungs, [(9, 2), (3, 6), (1, 18)]);
//! ```

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Values that a parameter may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// Any number between two, each as likely.
    Uniform(f64, f64),
    /// Any number between two that are above 0, each order of magnitude as likely.
    LogUniform(f64, f64),
    /// Any whole number between two, both included.
    Integer(i64, i64),
    /// One of these.
    Choice(Vec<Value>),
}

impl Range {
    fn draw(&self, random: &mut StdRng) -> Value {
        match self {
            Self::Uniform(least, most) => random.random_range(*least..=*most).into(),
            Self::LogUniform(least, most) => random
                .random_range(least.ln()..=most.ln())
                .exp()
                .clamp(*least, *most)
                .into(),
            Self::Integer(least, most) => random.random_range(*least..=*most).into(),
            Self::Choice(values) => values[random.random_range(0..values.len())].clone(),
        }
    }

    /// What is wrong with it.
    fn mistake(&self) -> Option<&'static str> {
        let finite = |least: &f64, most: &f64| least.is_finite() && most.is_finite() && least <= most;
        let right = match self {
            Self::Uniform(least, most) => finite(least, most),
            Self::LogUniform(least, most) => finite(least, most) && *least > 0.0,
            Self::Integer(least, most) => least <= most,
            Self::Choice(values) => !values.is_empty(),
        };
        (!right).then_some(match self {
            Self::Choice(_) => "expected one value at least",
            Self::LogUniform(..) => "expected two numbers above 0, the lesser first",
            _ => "expected two numbers, the lesser first",
        })
    }
}

/// Parameters by name, each with the values that it may have. As JSON:
/// `{"learning_rate": {"log_uniform": [0.0001, 0.1]}, "hidden": {"choice": [[64], [128, 64]]}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Space(BTreeMap<String, Range>);

impl Space {
    /// A space without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a parameter between two numbers.
    pub fn uniform(self, name: &str, least: f64, most: f64) -> Self {
        self.with(name, Range::Uniform(least, most))
    }

    /// With a parameter between two numbers above 0, on a logarithmic scale.
    pub fn log_uniform(self, name: &str, least: f64, most: f64) -> Self {
        self.with(name, Range::LogUniform(least, most))
    }

    /// With a parameter between two whole numbers, both included.
    pub fn integer(self, name: &str, least: i64, most: i64) -> Self {
        self.with(name, Range::Integer(least, most))
    }

    /// With a parameter that is one of some values.
    pub fn choice(self, name: &str, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.with(name, Range::Choice(values))
    }

    fn with(mut self, name: &str, range: Range) -> Self {
        self.0.insert(name.to_owned(), range);
        self
    }

    /// All that is wrong with it.
    pub fn mistakes(&self) -> Vec<String> {
        let told = self.0.iter().filter_map(|(name, range)| {
            let found = serde_json::to_string(range).unwrap_or_default();
            Some(format!("`space.{name}`: found {found}, {}", range.mistake()?))
        });
        told.collect()
    }

    /// So many points of it, the same for the same seed. It must be without [`mistakes`](Self::mistakes).
    pub fn samples(&self, count: usize, seed: u64) -> Vec<Map<String, Value>> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut point = || {
            let drawn = self
                .0
                .iter()
                .map(|(name, range)| (name.clone(), range.draw(&mut random)));
            drawn.collect()
        };
        (0..count).map(|_| point()).collect()
    }
}

/// Successive halving: every rung trains one in `eta` of the last one's trials, its best, with `eta` times the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// Trials of the first rung.
    pub trials: usize,
    /// What is divided by, and multiplied with.
    pub eta: usize,
    /// Rungs; with one of them it is a random search.
    pub rungs: u32,
    /// What a trial of the first rung gets, for example epochs.
    pub least: u64,
}

impl Halving {
    /// How many trials a rung has, from 0; one at least.
    pub fn trials_of(&self, rung: u32) -> usize {
        (self.trials / self.eta.saturating_pow(rung).max(1)).max(1)
    }

    /// What each of them gets.
    pub fn resource_of(&self, rung: u32) -> u64 {
        self.least.saturating_mul((self.eta as u64).saturating_pow(rung))
    }
}

/// The numbers of the trials from the best to the worst by what they scored, higher is better. One that scored nothing is the
/// worst; of equals the first.
pub fn ranked(scores: &[Option<f64>]) -> Vec<usize> {
    let score = |at: &usize| {
        scores[*at]
            .filter(|score| !score.is_nan())
            .unwrap_or(f64::NEG_INFINITY)
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|one, other| score(other).total_cmp(&score(one)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        serde_json::from_value(serde_json::json!({
            "rate": {"log_uniform": [1e-4, 1e-1]}, "dropout": {"uniform": [0.0, 0.5]},
            "depth": {"integer": [2, 4]}, "hidden": {"choice": [[8], [16, 8]]},
        }))
        .unwrap()
    }

    #[test]
    fn samples_lie_in_their_ranges_and_are_the_same_for_the_same_seed() {
        let samples = space().samples(200, 7);
        assert_eq!(samples, space().samples(200, 7));
        assert_ne!(samples, space().samples(200, 8));
        let number = |sample: &Map<String, Value>, name: &str| sample[name].as_f64().unwrap();
        for sample in &samples {
            assert!((1e-4..=1e-1).contains(&number(sample, "rate")), "{sample:?}");
            assert!((0.0..=0.5).contains(&number(sample, "dropout")), "{sample:?}");
            assert!((2.0..=4.0).contains(&number(sample, "depth")), "{sample:?}");
        }
        let small = samples
            .iter()
            .filter(|sample| number(sample, "rate") < 1e-2)
            .count();
        assert!(
            (100..=170).contains(&small),
            "{small} of 200 in two of three orders of magnitude"
        );
        for depth in 2..=4 {
            assert!(
                samples.iter().any(|sample| sample["depth"] == depth),
                "none has depth {depth}"
            );
        }
    }

    #[test]
    fn a_longer_search_begins_with_the_samples_of_a_shorter_one() {
        assert_eq!(space().samples(9, 7)[..4], space().samples(4, 7)[..]);
    }

    #[test]
    fn every_mistake_in_a_space_is_told() {
        let space = Space::new()
            .log_uniform("rate", 0.0, 1.0)
            .uniform("dropout", 0.5, f64::NAN)
            .integer("depth", 4, 2)
            .choice("hidden", Vec::<Value>::new());
        let told = space.mistakes().join("\n");
        for name in ["rate", "dropout", "depth", "hidden"] {
            assert!(
                told.contains(&format!("`space.{name}`: found ")),
                "{name} is not in {told}"
            );
        }
        assert_eq!(super::tests::space().mistakes(), Vec::<String>::new());
    }

    #[test]
    fn the_best_come_first_and_what_scored_nothing_last() {
        let scores = [Some(0.5), None, Some(0.7), Some(f64::NAN), Some(0.7)];
        assert_eq!(ranked(&scores), [2, 4, 0, 1, 3]);
    }
}
