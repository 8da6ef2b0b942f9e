//! Area under the ROC curve and log loss.

/// The area under the ROC curve; equal scores count as half. `None` when one of the two classes is absent.
pub fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len().min(labels.len())).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let positives = order.iter().filter(|&&row| labels[row] > 0.5).count();
    let negatives = order.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let rank_sum: f64 = order
        .chunk_by(|&a, &b| scores[a] == scores[b])
        .scan(0usize, |before, tied| {
            let rank = *before as f64 + (tied.len() as f64 + 1.0) / 2.0;
            *before += tied.len();
            Some(rank * tied.iter().filter(|&&row| labels[row] > 0.5).count() as f64)
        })
        .sum();
    let (p, n) = (positives as f64, negatives as f64);
    Some((rank_sum - p * (p + 1.0) / 2.0) / (p * n))
}

/// Mean binary cross-entropy of `logits`, computed without overflow; 0 for no rows.
pub fn log_loss(logits: &[f32], labels: &[f32]) -> f64 {
    let total: f64 = logits
        .iter()
        .zip(labels)
        .map(|(&z, &y)| f64::from(z.max(0.0) - z * y) + f64::from(-z.abs()).exp().ln_1p())
        .sum();
    total / logits.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_is_the_chance_that_a_positive_outranks_a_negative() {
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[0.0, 0.0, 1.0, 1.0]), Some(0.75));
        assert_eq!(auc(&[1.0, 2.0, 3.0], &[0.0, 1.0, 1.0]), Some(1.0));
        assert_eq!(auc(&[5.0; 4], &[0.0, 1.0, 0.0, 1.0]), Some(0.5));
        assert_eq!(auc(&[0.3, 0.2], &[1.0, 1.0]), None);
        assert_eq!(auc(&[], &[]), None);
    }

    #[test]
    fn log_loss_survives_extreme_logits() {
        assert!((log_loss(&[0.0, 0.0], &[0.0, 1.0]) - std::f64::consts::LN_2).abs() < 1e-9);
        assert!(log_loss(&[1e4, -1e4], &[1.0, 0.0]) < 1e-9);
        assert!((log_loss(&[1e4], &[0.0]) - 1e4).abs() < 1.0);
    }
}
