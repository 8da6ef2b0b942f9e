//! Features as small numbers: each value falls into one of up to 256 bins, between cuts that are values of the data.

use crate::train::tabular::Rows;

/// Bins of a feature at most.
pub const MOST: usize = 256;

/// A split's features in bins, column by column.
#[derive(Debug, Clone)]
pub struct Bins {
    /// The cuts of each feature, ascending: a value is in the first bin whose cut is not below it.
    pub cuts: Vec<Vec<f32>>,
    codes: Vec<u8>,
    rows: usize,
}

impl Bins {
    /// Cuts each feature so that its bins have about as many rows each.
    pub fn fit(rows: &Rows) -> Self {
        let mut bins = Self {
            cuts: Vec::with_capacity(rows.width),
            codes: Vec::with_capacity(rows.features.len()),
            rows: rows.len(),
        };
        for feature in 0..rows.width {
            let column = || rows.features.iter().skip(feature).step_by(rows.width);
            let cuts = cuts(column().copied().collect());
            bins.codes.extend(column().map(|value| code(&cuts, *value)));
            bins.cuts.push(cuts);
        }
        bins
    }

    /// The bins of a feature, one for each row.
    pub fn column(&self, feature: usize) -> &[u8] {
        &self.codes[feature * self.rows..(feature + 1) * self.rows]
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

fn code(cuts: &[f32], value: f32) -> u8 {
    let bin = cuts.partition_point(|cut| *cut < value);
    u8::try_from(bin).unwrap_or(u8::MAX)
}

/// Up to 255 cuts; what is above the last one is in a bin of its own.
fn cuts(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_unstable_by(f32::total_cmp);
    let count = values.len();
    let quantiles = (1..MOST).filter_map(|nth| values.get(nth * count / MOST).copied());
    let mut distinct = values.clone();
    distinct.dedup();
    let mut cuts = match distinct.len() < MOST {
        true => distinct,
        false => quantiles.collect(),
    };
    cuts.dedup();
    // Nothing is above the largest value: it would be a cut that parts nothing.
    if cuts.last() == values.last() {
        cuts.pop();
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bin_whose_cut_is_not_below_it() {
        let rows = Rows {
            features: vec![3.0, 1.0, 2.0, 2.0].into(),
            labels: vec![0.0; 4].into(),
            width: 1,
        };
        let bins = Bins::fit(&rows);
        assert_eq!(bins.cuts, [vec![1.0, 2.0]]);
        assert_eq!(bins.column(0), [2, 0, 1, 1]);
    }

    #[test]
    fn many_values_share_bins_of_about_one_size() {
        let rows = Rows {
            features: (0..10_000).map(|value| value as f32).collect::<Vec<_>>().into(),
            labels: vec![0.0; 10_000].into(),
            width: 1,
        };
        let bins = Bins::fit(&rows);
        assert_eq!(bins.cuts[0].len(), MOST - 1);
        let mut sizes = [0; MOST];
        bins.column(0)
            .iter()
            .for_each(|&bin| sizes[usize::from(bin)] += 1);
        assert!(sizes.iter().all(|size| (35..=45).contains(size)), "{sizes:?}");
    }
}
