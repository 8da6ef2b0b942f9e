//! How values are distributed: counts in bins that all who count have in common, so that they can be added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bits of a 32-bit float that tell no bin from another: a bin is a sixteenth of a power of two wide.
const WITHIN: u32 = 19;
/// Bins of one distribution at most; what would need another one falls into the next lower.
const MOST: usize = 2048;
/// Groups of one size that the expected values are divided into, to be compared with others.
const GROUPS: u64 = 10;

/// The distribution of some values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sketch(BTreeMap<u16, u64>);

impl Sketch {
    /// Counts a value; what is no number is left out.
    pub fn add(&mut self, value: f32) {
        if !value.is_nan() {
            self.add_many(bin_of(value), 1);
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bin, count) in &other.0 {
            self.add_many(*bin, *count);
        }
    }

    fn add_many(&mut self, bin: u16, count: u64) {
        let full = self.0.len() >= MOST && !self.0.contains_key(&bin);
        let lower = self.0.range(..bin).next_back().or_else(|| self.0.iter().next());
        let bin = lower.filter(|_| full).map_or(bin, |(lower, _)| *lower);
        let sum = self.0.entry(bin).or_default();
        *sum = sum.saturating_add(count);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The value that a part of all do not exceed, to a sixteenth; none where there is none at all.
    pub fn quantile(&self, part: f64) -> Option<f32> {
        let rank = (part * self.count() as f64).ceil().max(1.0);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen as f64 >= rank
        });
        found.map(|(bin, _)| value_of(*bin))
    }

    /// The population stability index of other values, where these are expected: `Σ (aᵢ - eᵢ) ln(aᵢ / eᵢ)` over groups that
    /// hold a tenth each of what is expected, and one on each side of them (N. Siddiqi, Credit Risk Scorecards, 2006).
    /// By chance alone it would be about `(groups - 1) (1/n + 1/m)` (B. Yurdakul, Statistical Properties of Population
    /// Stability Index, 2018), which is taken off. None where one of the two has no values.
    pub fn drift(&self, others: &Self) -> Option<f64> {
        let (n, m) = (self.count() as f64, others.count() as f64);
        if n == 0.0 || m == 0.0 {
            return None;
        }
        let ends = self.ends();
        let groups = ends.len() as f64 + 1.0;
        // Half a value more in each group: none has a share of 0.
        let share = |count: u64, all: f64| (count as f64 + 0.5) / (all + 0.5 * groups);
        let pairs = self.grouped(&ends).into_iter().zip(others.grouped(&ends));
        let index: f64 = pairs
            .map(|(expected, actual)| {
                let (expected, actual) = (share(expected, n), share(actual, m));
                (actual - expected) * (actual / expected).ln()
            })
            .sum();
        Some((index - (groups - 1.0) * (1.0 / n + 1.0 / m)).max(0.0))
    }

    /// Where groups of a tenth each end, the one below all values first: a group ends before the bin.
    fn ends(&self) -> Vec<u32> {
        let all = self.count();
        let mut ends: Vec<u32> = self
            .0
            .keys()
            .next()
            .map(|first| u32::from(*first))
            .into_iter()
            .collect();
        let (mut seen, mut nth) = (0, 1);
        for (bin, count) in &self.0 {
            seen += count;
            if u128::from(seen) * u128::from(GROUPS) >= u128::from(all) * u128::from(nth) {
                ends.push(u32::from(*bin) + 1);
                nth = (u128::from(seen) * u128::from(GROUPS) / u128::from(all.max(1))) as u64 + 1;
            }
        }
        ends
    }

    fn grouped(&self, ends: &[u32]) -> Vec<u64> {
        let mut groups = vec![0; ends.len() + 1];
        for (bin, count) in &self.0 {
            let group = ends.partition_point(|end| *end <= u32::from(*bin));
            if let Some(sum) = groups.get_mut(group) {
                *sum += count;
            }
        }
        groups
    }
}

/// The bin of a value; a larger value never has a smaller one.
fn bin_of(value: f32) -> u16 {
    // Zero has one bin, whatever its sign.
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    (ordered >> WITHIN) as u16
}

/// The value of a bin that is nearest to zero, or the farthest from it of negative ones.
fn value_of(bin: u16) -> f32 {
    let ordered = u32::from(bin) << WITHIN;
    let bits = if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    };
    f32::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = f32>) -> Sketch {
        let mut sketch = Sketch::default();
        values.into_iter().for_each(|value| sketch.add(value));
        sketch
    }

    /// So many values between 0 and 1, evenly spread, each to a power.
    fn spread(count: u16, power: f32) -> Sketch {
        of((0..count).map(|nth| ((f32::from(nth) + 0.5) / f32::from(count)).powf(power)))
    }

    #[test]
    fn a_quantile_is_found_to_a_sixteenth() {
        let sketch = of((1..=1000).map(|nth| nth as f32));
        let found = sketch.quantile(0.99).unwrap();
        assert!((928.0..=990.0).contains(&found), "{found}");
        assert_eq!(of([-2.0, -2.0, 8.0]).quantile(1.0), Some(8.0));
        assert_eq!(Sketch::default().quantile(0.5), None);
        assert_eq!(of([f32::NAN]).count(), 0);
    }

    #[test]
    fn values_of_one_kind_do_not_drift_and_others_do() {
        let expected = spread(2000, 1.0);
        assert!(expected.drift(&spread(300, 1.0)).unwrap() < 0.02);
        let moved = expected.drift(&spread(300, 1.5)).unwrap();
        let far = expected.drift(&spread(300, 4.0)).unwrap();
        assert!(0.02 < moved && moved < 0.25 && far > 0.25, "{moved} {far}");
        assert_eq!(expected.drift(&Sketch::default()), None);
    }

    #[test]
    fn a_constant_drifts_when_it_is_another_one_on_either_side() {
        let expected = of([0.5; 100]);
        assert!(expected.drift(&of([0.5; 100])).unwrap() < 0.01);
        assert!(expected.drift(&of([0.4; 100])).unwrap() > 1.0);
        assert!(expected.drift(&of([0.7; 100])).unwrap() > 1.0);
    }

    #[test]
    fn there_are_no_more_bins_than_allowed_and_nothing_is_lost() {
        let values = (0..4000u32)
            .map(|nth| f32::from_bits(nth << WITHIN | 1))
            .filter(|value| !value.is_nan());
        let sketch = of(values.clone());
        assert!(sketch.0.len() <= MOST);
        assert_eq!(sketch.count(), values.count() as u64);
    }

    proptest! {
        #[test]
        fn a_larger_value_never_has_a_smaller_bin(one: f32, other: f32) {
            prop_assume!(one <= other && one.is_finite());
            prop_assert!(bin_of(one) <= bin_of(other));
            prop_assert_eq!(bin_of(value_of(bin_of(one))), bin_of(one));
        }

        #[test]
        fn what_is_counted_apart_adds_up(values in proptest::collection::vec(-10f32..10.0, 0..50), at in 0usize..50) {
            let at = at.min(values.len());
            let mut sum = of(values[..at].iter().copied());
            sum.merge(&of(values[at..].iter().copied()));
            prop_assert_eq!(sum, of(values));
        }
    }
}
