//! Metrics of probabilities and of rankings, on scores and binary labels.
//!
//! | metric | formula |
//! |---|---|
//! | [`auc`] | Mann-Whitney U with mid-ranks for ties (Hanley and McNeil 1982; Fawcett 2006, section 7) |
//! | [`log_loss`] | mean negative log-likelihood of a Bernoulli variable (Bishop 2006, eq. 4.90) |
//! | [`precision_at`], [`recall_at`] | Manning, Raghavan and Schütze 2008, chapter 8.4 |
//! | [`ndcg_at`] | gain `2^label - 1`, discount `1 / log2(rank + 1)` (Järvelin and Kekäläinen 2002; Burges et al. 2005) |
//!
//! Rankings are per group (a user) and then averaged with equal weight; see [`RankingMetrics`].

/// Probabilities are kept this far from 0 and 1 before the logarithm.
const EPSILON: f64 = 1e-7;

/// A score that a model gave and what happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// What is ranked together: the user.
    pub group: i64,
    /// The model's score.
    pub score: f32,
    /// Whether it was a click.
    pub label: bool,
}

/// The area under the ROC curve: the chance that a positive is scored above a negative, ties counted half.
///
/// None where there is no positive or no negative, or where a score is not a number.
pub fn auc(rows: &[Scored]) -> Option<f64> {
    let positives = rows.iter().filter(|row| row.label).count();
    let negatives = rows.len() - positives;
    if positives == 0 || negatives == 0 || rows.iter().any(|row| row.score.is_nan()) {
        return None;
    }
    let mut sorted: Vec<(f32, bool)> = rows.iter().map(|row| (row.score, row.label)).collect();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut rank_sum = 0.0;
    let mut before = 0usize;
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        let mid_rank = before as f64 + (ties.len() + 1) as f64 / 2.0;
        rank_sum += mid_rank * ties.iter().filter(|(_, label)| *label).count() as f64;
        before += ties.len();
    }
    let (positives, negatives) = (positives as f64, negatives as f64);
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// The mean negative log-likelihood of the labels, scores read as probabilities. None for no rows.
pub fn log_loss(rows: &[Scored]) -> Option<f64> {
    if rows.is_empty() {
        return None;
    }
    let loss = |row: &Scored| {
        let p = f64::from(row.score).clamp(EPSILON, 1.0 - EPSILON);
        if row.label { -p.ln() } else { -(1.0 - p).ln() }
    };
    Some(rows.iter().map(loss).sum::<f64>() / rows.len() as f64)
}

/// Positives among the first `k`, of `k`; a shorter ranking counts as padded with negatives.
///
/// `ranking` holds the labels, best score first.
pub fn precision_at(ranking: &[bool], k: usize) -> f64 {
    if k == 0 {
        0.0
    } else {
        hits(ranking, k) as f64 / k as f64
    }
}

/// Positives among the first `k`, of all positives. None where there is no positive.
pub fn recall_at(ranking: &[bool], k: usize) -> Option<f64> {
    let positives = hits(ranking, ranking.len());
    (positives > 0).then(|| hits(ranking, k) as f64 / positives as f64)
}

/// Discounted gain of the first `k`, of the best that was possible. None where there is no positive.
pub fn ndcg_at(ranking: &[bool], k: usize) -> Option<f64> {
    let positives = hits(ranking, ranking.len());
    let discount = |index: usize| 1.0 / ((index + 2) as f64).log2();
    let ideal: f64 = (0..positives.min(k)).map(discount).sum();
    let gain: f64 = ranking
        .iter()
        .take(k)
        .enumerate()
        .filter(|(_, label)| **label)
        .map(|(i, _)| discount(i))
        .sum();
    (ideal > 0.0).then(|| gain / ideal)
}

fn hits(ranking: &[bool], k: usize) -> usize {
    ranking.iter().take(k).filter(|label| **label).count()
}

/// Means over the users that have at least one positive: for the others nothing can be ranked well.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RankingMetrics {
    /// Mean of [`precision_at`].
    pub precision: f64,
    /// Mean of [`recall_at`].
    pub recall: f64,
    /// Mean of [`ndcg_at`].
    pub ndcg: f64,
    /// How many users were averaged.
    pub groups: usize,
}

/// Ranks the rows of each user by score and averages the metrics at `k`.
///
/// Equal scores keep negatives first, so that a constant model gains nothing from the order of the rows.
pub fn ranking(rows: &[Scored], k: usize) -> RankingMetrics {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| {
        a.group
            .cmp(&b.group)
            .then(b.score.total_cmp(&a.score))
            .then(a.label.cmp(&b.label))
    });
    let mut sums = RankingMetrics::default();
    let mut labels = Vec::new();
    for group in sorted.chunk_by(|a, b| a.group == b.group) {
        labels.clear();
        labels.extend(group.iter().map(|row| row.label));
        if let (Some(recall), Some(ndcg)) = (recall_at(&labels, k), ndcg_at(&labels, k)) {
            sums.precision += precision_at(&labels, k);
            sums.recall += recall;
            sums.ndcg += ndcg;
            sums.groups += 1;
        }
    }
    let count = sums.groups.max(1) as f64;
    RankingMetrics {
        precision: sums.precision / count,
        recall: sums.recall / count,
        ndcg: sums.ndcg / count,
        groups: sums.groups,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(score: f32, label: bool) -> Scored {
        Scored {
            group: 1,
            score,
            label,
        }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn auc_of_known_rankings() {
        let perfect = [row(0.1, false), row(0.9, true)];
        assert_eq!(auc(&perfect), Some(1.0));
        assert_eq!(auc(&[row(0.9, false), row(0.1, true)]), Some(0.0));
        assert_eq!(auc(&[row(0.5, false), row(0.5, true)]), Some(0.5));
        // The example of scikit-learn's `roc_auc_score`.
        let rows = [row(0.1, false), row(0.4, false), row(0.35, true), row(0.8, true)];
        assert_eq!(auc(&rows), Some(0.75));
    }

    #[test]
    fn zero_and_minus_zero_are_a_tie() {
        assert_eq!(auc(&[row(-0.0, true), row(0.0, false)]), Some(0.5));
    }

    #[test]
    fn metrics_of_nothing_are_none() {
        assert_eq!(auc(&[]), None);
        assert_eq!(auc(&[row(0.1, true)]), None);
        assert_eq!(auc(&[row(f32::NAN, true), row(0.1, false)]), None);
        assert_eq!(log_loss(&[]), None);
        assert_eq!(recall_at(&[false], 10), None);
        assert_eq!(ndcg_at(&[], 10), None);
        assert_eq!(ranking(&[], 10), RankingMetrics::default());
    }

    #[test]
    fn log_loss_of_known_probabilities() {
        assert!(close(
            log_loss(&[row(0.5, true), row(0.5, false)]).unwrap(),
            std::f64::consts::LN_2
        ));
        assert!(log_loss(&[row(0.0, true)]).unwrap().is_finite());
    }

    #[test]
    fn ranking_metrics_of_a_known_list() {
        let list = [true, false, true];
        assert!(close(precision_at(&list, 2), 0.5));
        assert!(close(precision_at(&list, 10), 0.2));
        assert!(close(recall_at(&list, 2).unwrap(), 0.5));
        let wanted = (1.0 + 0.5) / (1.0 + 1.0 / 3f64.log2());
        assert!(close(ndcg_at(&list, 10).unwrap(), wanted));
    }

    #[test]
    fn users_count_alike_and_those_without_a_click_do_not_count() {
        let of = |group, score, label| Scored { group, score, label };
        let rows = [
            of(1, 0.9, true),
            of(1, 0.1, false),
            of(2, 0.9, false),
            of(2, 0.1, true),
            of(3, 0.5, false),
        ];
        let metrics = ranking(&rows, 1);
        assert_eq!(
            metrics,
            RankingMetrics {
                precision: 0.5,
                recall: 0.5,
                ndcg: 0.5,
                groups: 2
            }
        );
    }

    /// Compares every positive with every negative.
    fn brute_force_auc(rows: &[Scored]) -> Option<f64> {
        let (mut wins, mut pairs) = (0.0, 0.0);
        for positive in rows.iter().filter(|row| row.label) {
            for negative in rows.iter().filter(|row| !row.label) {
                pairs += 1.0;
                wins += if positive.score > negative.score {
                    1.0
                } else if positive.score == negative.score {
                    0.5
                } else {
                    0.0
                };
            }
        }
        (pairs > 0.0).then(|| wins / pairs)
    }

    fn rows() -> impl Strategy<Value = Vec<Scored>> {
        let row = (0..4i64, 0..12u8, any::<bool>()).prop_map(|(group, score, label)| Scored {
            group,
            score: f32::from(score) / 11.0,
            label,
        });
        proptest::collection::vec(row, 0..80)
    }

    proptest! {
        #[test]
        fn auc_equals_the_comparison_of_all_pairs(rows in rows()) {
            match (auc(&rows), brute_force_auc(&rows)) {
                (Some(found), Some(wanted)) => prop_assert!(close(found, wanted), "{} {}", found, wanted),
                (found, wanted) => prop_assert_eq!(found, wanted),
            }
        }

        #[test]
        fn auc_does_not_depend_on_the_order_or_the_scale(mut rows in rows()) {
            let before = auc(&rows);
            rows.reverse();
            rows.iter_mut().for_each(|row| row.score = row.score * 0.25 - 3.0);
            prop_assert_eq!(auc(&rows), before);
        }

        #[test]
        fn ranking_metrics_lie_between_0_and_1_whatever_the_order(mut rows in rows(), k in 1usize..12) {
            let before = ranking(&rows, k);
            for value in [before.precision, before.recall, before.ndcg] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value));
            }
            rows.reverse();
            prop_assert_eq!(ranking(&rows, k), before);
        }

        #[test]
        fn scores_equal_to_the_labels_are_a_perfect_ranking(mut rows in rows(), k in 1usize..12) {
            rows.iter_mut().for_each(|row| row.score = f32::from(u8::from(row.label)));
            let metrics = ranking(&rows, k);
            prop_assert!(metrics.groups == 0 || close(metrics.ndcg, 1.0));
        }
    }
}
