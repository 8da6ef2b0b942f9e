//! The distribution of a column beside the one that is expected.

use serde_json::{Value, json};

use super::{Cell, Check, DISTINCT, Finding, Kwargs, cell, column, object};
use crate::table::FastMap;
use crate::validate::suite::Partition;

#[derive(Clone, Copy)]
enum Distance {
    /// The Kullback-Leibler divergence of what is observed from what is expected.
    KullbackLeibler,
    /// The population stability index: the same, both ways.
    Stability,
}

struct Distribution {
    place: usize,
    distance: Distance,
    partition: Partition,
    threshold: f64,
    tail: f64,
    internal: f64,
    rows: u64,
    counts: FastMap<u64, u64>,
    /// Below the first edge, in each bin, above the last edge.
    bins: Vec<u64>,
}

/// The share that stands for none, so that the stability index stays finite.
const TRACE: f64 = 1e-6;

pub(super) fn compile(
    kind: &str,
    kwargs: &Kwargs,
    columns: &[&str],
) -> Result<Option<Box<dyn Check>>, String> {
    let distance = match kind {
        "expect_column_kl_divergence_to_be_less_than" => Distance::KullbackLeibler,
        "expect_column_psi_to_be_less_than" => Distance::Stability,
        _ => return Ok(None),
    };
    let place = column(kind, kwargs, columns)?;
    let partition = kwargs
        .partition_object
        .clone()
        .ok_or_else(|| format!("`{kind}` needs `partition_object`"))?;
    let threshold = kwargs
        .threshold
        .ok_or_else(|| format!("`{kind}` needs `threshold`"))?;
    let tail = kwargs.tail_weight_holdout.unwrap_or(0.0);
    let internal = kwargs.internal_weight_holdout.unwrap_or(0.0);
    check(&partition, tail, internal).map_err(|reason| format!("`{kind}`: {reason}"))?;
    let bins = vec![0; partition.bins.as_ref().map_or(0, |edges| edges.len() + 1)];
    let (rows, counts) = (0, FastMap::default());
    Ok(Some(Box::new(Distribution {
        place,
        distance,
        partition,
        threshold,
        tail,
        internal,
        rows,
        counts,
        bins,
    })))
}

fn check(partition: &Partition, tail: f64, internal: f64) -> Result<(), String> {
    let weights = partition.weights.len();
    let fits = match (&partition.values, &partition.bins) {
        (Some(values), None) => values.len() == weights && internal == 0.0,
        (None, Some(edges)) => {
            edges.len() == weights + 1 && edges.is_sorted() && edges.iter().all(|edge| edge.is_finite())
        }
        _ => false,
    };
    let sum: f64 = partition.weights.iter().sum::<f64>() + partition.tail_weights.map_or(0.0, |[a, b]| a + b);
    if !fits {
        return Err(
            "`partition_object` needs `values` or finite, rising `bins`, with a weight for each".into(),
        );
    }
    if (sum - 1.0).abs() > 1e-3 || partition.weights.iter().any(|weight| *weight < 0.0) {
        return Err(format!("the weights add up to {sum}, allowed is 1"));
    }
    let shares = (0.0..1.0).contains(&tail) && (0.0..1.0).contains(&internal) && tail + internal < 1.0;
    if shares {
        Ok(())
    } else {
        Err(format!(
            "found the holdouts {tail} and {internal}, allowed are less than 1"
        ))
    }
}

impl Distribution {
    /// The observed and the expected shares.
    fn shares(&self) -> (Vec<f64>, Vec<f64>) {
        match &self.partition.values {
            Some(values) => self.shares_of_values(values),
            None => self.shares_of_bins(),
        }
    }

    /// Where values are seen that were not expected, each is given the share of the tail.
    fn shares_of_values(&self, values: &[Value]) -> (Vec<f64>, Vec<f64>) {
        let hashes: Vec<u64> = values.iter().filter_map(Cell::of_json).map(Cell::hash).collect();
        let rows = self.rows as f64;
        let mut observed: Vec<f64> = hashes
            .iter()
            .map(|hash| self.counts.get(hash).copied().unwrap_or(0) as f64 / rows)
            .collect();
        let mut expected = self.partition.weights.clone();
        let others: Vec<u64> = self
            .counts
            .iter()
            .filter(|(hash, _)| !hashes.contains(hash))
            .map(|(_, count)| *count)
            .collect();
        if !others.is_empty() {
            expected.iter_mut().for_each(|weight| *weight *= 1.0 - self.tail);
        }
        for count in others {
            observed.push(count as f64 / rows);
            expected.push(self.tail);
        }
        (observed, expected)
    }

    fn shares_of_bins(&self) -> (Vec<f64>, Vec<f64>) {
        let observed = self
            .bins
            .iter()
            .map(|count| *count as f64 / self.rows as f64)
            .collect();
        let mut inner: Vec<f64> = self
            .partition
            .weights
            .iter()
            .map(|weight| weight * (1.0 - self.tail - self.internal))
            .collect();
        let zeros = inner.iter().filter(|weight| **weight == 0.0).count();
        for weight in inner.iter_mut().filter(|weight| **weight == 0.0) {
            *weight = self.internal / zeros.max(1) as f64;
        }
        let [below, above] = self.partition.tail_weights.unwrap_or([self.tail / 2.0; 2]);
        let expected = std::iter::once(below)
            .chain(inner)
            .chain(std::iter::once(above))
            .collect();
        (observed, expected)
    }
}

fn divergence(of: &[f64], from: &[f64]) -> f64 {
    let (of_sum, from_sum): (f64, f64) = (of.iter().sum(), from.iter().sum());
    let part = |(p, q): (&f64, &f64)| {
        let (p, q) = (p / of_sum, q / from_sum);
        if p == 0.0 { 0.0 } else { p * (p / q).ln() }
    };
    of.iter().zip(from).map(part).sum()
}

impl Check for Distribution {
    fn row(&mut self, row: &[Cell<'_>]) -> bool {
        let value = cell(row, self.place);
        if value.is_null() {
            return false;
        }
        self.rows += 1;
        let Some(edges) = &self.partition.bins else {
            if self.counts.len() < DISTINCT {
                *self.counts.entry(value.hash()).or_default() += 1;
            }
            return false;
        };
        let Some(number) = value.number() else {
            return false;
        };
        // The last bin holds its upper edge too.
        let at = if edges.last() == Some(&number) {
            edges.len() - 1
        } else {
            edges.partition_point(|edge| *edge <= number)
        };
        if let Some(bin) = self.bins.get_mut(at) {
            *bin += 1;
        }
        false
    }

    fn reason(&self, _: &[Cell<'_>]) -> String {
        String::new()
    }

    fn finish(&self) -> Finding {
        let (mut observed, mut expected) = self.shares();
        let distance = match self.distance {
            _ if self.rows == 0 => f64::NAN,
            Distance::KullbackLeibler => divergence(&observed, &expected),
            Distance::Stability => {
                for share in observed.iter_mut().chain(&mut expected) {
                    *share = share.max(TRACE);
                }
                divergence(&observed, &expected) + divergence(&expected, &observed)
            }
        };
        let success = self.rows == 0 || (distance.is_finite() && distance <= self.threshold);
        let shown = if distance.is_finite() {
            json!(distance)
        } else {
            Value::Null
        };
        let words = format!("the distance is {shown}, allowed is at most {}", self.threshold);
        let details = json!({ "observed_weights": observed, "expected_weights": expected });
        let result = object([
            ("observed_value", shown),
            ("element_count", self.rows.into()),
            ("details", details),
        ]);
        Finding {
            success,
            result,
            words,
        }
    }
}
