//! Scaling of features: fitted on the training split, the very same in the exported model.

use serde::Deserialize;

/// Normalised features are kept within this many deviations of the mean, in training and in the exported model:
/// counts drift upwards in time, and a model should not be driven far outside what it was fitted on.
pub const FEATURE_CLIP: f32 = 6.0;

/// Mean and deviation of each feature, fitted on the training split.
#[derive(Debug, Clone, Deserialize)]
pub struct Scaling {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations.
    pub std: Vec<f32>,
}

impl Scaling {
    /// The mean and deviation of each column of rows of `width` numbers.
    pub fn fit(values: &[f32], width: usize) -> Self {
        let rows = (values.len() / width.max(1)).max(1) as f64;
        let mut sums = vec![0.0f64; width];
        let lines = || values.chunks_exact(width.max(1));
        lines().for_each(|line| {
            sums.iter_mut()
                .zip(line)
                .for_each(|(sum, value)| *sum += f64::from(*value))
        });
        let mean: Vec<f64> = sums.iter().map(|sum| sum / rows).collect();
        let mut squares = vec![0.0f64; width];
        for line in lines() {
            for ((square, value), mean) in squares.iter_mut().zip(line).zip(&mean) {
                *square += (f64::from(*value) - mean).powi(2);
            }
        }
        Self {
            mean: mean.iter().map(|mean| *mean as f32).collect(),
            std: squares
                .iter()
                .map(|square| (square / rows).sqrt() as f32)
                .collect(),
        }
    }

    /// One over each deviation; 1 for a feature that never varies.
    pub fn inverse(&self) -> Vec<f32> {
        self.std
            .iter()
            .map(|&std| if std > 1e-12 { 1.0 / std } else { 1.0 })
            .collect()
    }
}

/// Scales rows of features in place; the exported graph does the very same.
pub fn normalise(values: &mut [f32], scaling: &Scaling) {
    let inverse = scaling.inverse();
    for row in values.chunks_exact_mut(inverse.len().max(1)) {
        for ((value, mean), inverse) in row.iter_mut().zip(&scaling.mean).zip(&inverse) {
            *value = ((*value - mean) * inverse).clamp(-FEATURE_CLIP, FEATURE_CLIP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fitted_has_mean_zero_and_deviation_one_and_what_never_varies_stays() {
        let mut values = [1.0, 5.0, 3.0, 5.0];
        let scaling = Scaling::fit(&values, 2);
        assert_eq!(
            (&scaling.mean[..], &scaling.std[..]),
            (&[2.0, 5.0][..], &[1.0, 0.0][..])
        );
        normalise(&mut values, &scaling);
        assert_eq!(values, [-1.0, 0.0, 1.0, 0.0]);
    }
}
