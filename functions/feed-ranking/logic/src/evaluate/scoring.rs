//! The test split in pairs of user and item, and the metrics of their scores.

use std::collections::BTreeMap;

use tidegate_ml::metrics::{Scored, auc, log_loss, ranking};

use crate::features::training::Batch;

/// Pairs of one inference request.
pub const PAIRS: usize = 2048;
/// The length of the ranking that precision, recall and NDCG look at.
const K: usize = 10;

/// Pairs of one inference request: as many users as items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pairs<'a> {
    /// Who.
    pub user_id: &'a [i64],
    /// Saw what.
    pub item_id: &'a [i64],
    /// User features, row-major.
    pub user: &'a [f32],
    /// Item features, row-major.
    pub item: &'a [f32],
    /// What happened.
    label: &'a [f32],
}

impl Batch {
    /// The batch in requests of at most [`PAIRS`] pairs.
    pub fn pairs(&self) -> impl Iterator<Item = Pairs<'_>> {
        let rows = self.label.len().max(1);
        let (user_width, item_width) = (self.user.len() / rows, self.item.len() / rows);
        let ids = self
            .user_id
            .chunks(PAIRS)
            .zip(self.item_id.chunks(PAIRS))
            .zip(self.label.chunks(PAIRS));
        let features = self
            .user
            .chunks(PAIRS * user_width.max(1))
            .zip(self.item.chunks(PAIRS * item_width.max(1)));
        ids.zip(features)
            .map(|(((user_id, item_id), label), (user, item))| Pairs {
                user_id,
                item_id,
                user,
                item,
                label,
            })
    }
}

/// Why scores cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoringError {
    /// The model gave another number of scores than it was asked for.
    #[error("the model gave {found} scores for {wanted} pairs")]
    Count {
        /// Scores.
        found: usize,
        /// Pairs.
        wanted: usize,
    },
    /// The split says nothing about a ranking.
    #[error("the test split of {rows} rows holds only one class, so that no auc can be computed")]
    OneClass {
        /// Rows.
        rows: usize,
    },
    /// A score is not a number.
    #[error("the model gave a score that is not a number")]
    NotANumber,
}

/// The scores of a whole split.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    rows: Vec<Scored>,
}

impl Scores {
    /// Adds the scores of a request.
    pub fn add(&mut self, pairs: &Pairs<'_>, scores: &[f32]) -> Result<(), ScoringError> {
        let (found, wanted) = (scores.len(), pairs.label.len());
        if found != wanted {
            return Err(ScoringError::Count { found, wanted });
        }
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(ScoringError::NotANumber);
        }
        let rows = pairs.user_id.iter().zip(scores).zip(pairs.label);
        self.rows.extend(rows.map(|((group, score), label)| Scored {
            group: *group,
            score: *score,
            label: *label > 0.5,
        }));
        Ok(())
    }

    /// The area under the ROC curve.
    pub fn auc(&self) -> Result<f64, ScoringError> {
        auc(&self.rows).ok_or(ScoringError::OneClass {
            rows: self.rows.len(),
        })
    }

    /// Every metric, by its name in the registry.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>, ScoringError> {
        let rows = self.rows.len();
        let ranking = ranking(&self.rows, K);
        let metrics = [
            ("auc", self.auc()?),
            (
                "log_loss",
                log_loss(&self.rows).ok_or(ScoringError::OneClass { rows })?,
            ),
            ("precision_at_10", ranking.precision),
            ("recall_at_10", ranking.recall),
            ("ndcg_at_10", ranking.ndcg),
            ("ranked_users", ranking.groups as f64),
            ("test_rows", rows as f64),
        ];
        Ok(metrics.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: usize) -> Batch {
        Batch {
            user_id: (0..rows as i64).map(|row| row % 7).collect(),
            item_id: (0..rows as i64).collect(),
            label: (0..rows)
                .map(|row| (row % 3 == 0).into())
                .map(|label: u8| label.into())
                .collect(),
            user: (0..rows * 2).map(|value| value as f32).collect(),
            item: (0..rows * 3).map(|value| value as f32).collect(),
        }
    }

    #[test]
    fn requests_are_bounded_and_cover_every_row_once() {
        let batch = batch(5000);
        let pairs: Vec<_> = batch.pairs().collect();
        assert_eq!(
            pairs.iter().map(|pairs| pairs.item_id.len()).collect::<Vec<_>>(),
            [2048, 2048, 904]
        );
        assert!(
            pairs
                .iter()
                .all(|pairs| pairs.user.len() == pairs.user_id.len() * 2)
        );
        assert!(
            pairs
                .iter()
                .all(|pairs| pairs.item.len() == pairs.user_id.len() * 3)
        );
        assert_eq!(pairs[1].item[0], 2048.0 * 3.0);
        assert_eq!(Batch::default().pairs().count(), 0);
    }

    #[test]
    fn scores_equal_to_the_labels_are_perfect() {
        let batch = batch(3000);
        let mut scores = Scores::default();
        for pairs in batch.pairs() {
            scores.add(&pairs, pairs.label).unwrap();
        }
        let metrics = scores.metrics().unwrap();
        assert_eq!(
            (metrics["auc"], metrics["ndcg_at_10"], metrics["ranked_users"]),
            (1.0, 1.0, 7.0)
        );
        assert!(metrics["log_loss"] < 1e-6);
    }

    #[test]
    fn what_cannot_be_evaluated_is_an_error_that_says_why() {
        let batch = batch(10);
        let pairs = batch.pairs().next().unwrap();
        let mut scores = Scores::default();
        assert_eq!(
            scores.add(&pairs, &[0.5; 9]),
            Err(ScoringError::Count { found: 9, wanted: 10 })
        );
        assert_eq!(scores.add(&pairs, &[f32::NAN; 10]), Err(ScoringError::NotANumber));
        assert_eq!(scores.auc(), Err(ScoringError::OneClass { rows: 0 }));
    }
}
