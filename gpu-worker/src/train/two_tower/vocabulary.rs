//! Ids to embedding rows. Row 0 stands for every id that training did not see often enough.

use std::collections::HashMap;

use crate::train::column::Column;

/// The ids of one side that have an embedding row of their own.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    ids: Vec<i64>,
    rows: HashMap<i64, u32>,
}

impl Vocabulary {
    /// The ids that occur at least `min_count` times, in ascending order.
    pub fn fit(ids: &[i64], min_count: usize) -> Self {
        let mut counts: HashMap<i64, usize> = HashMap::new();
        ids.iter().for_each(|&id| *counts.entry(id).or_default() += 1);
        let often = counts.into_iter().filter(|(_, count)| *count >= min_count);
        let mut kept: Vec<i64> = often.map(|(id, _)| id).collect();
        kept.sort_unstable();
        let rows = kept.iter().zip(1u32..).map(|(&id, row)| (id, row)).collect();
        Self { ids: kept, rows }
    }

    /// Embedding rows, the unknown one included.
    pub fn rows(&self) -> usize {
        self.ids.len() + 1
    }

    /// The known ids; the n-th has row n + 1.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// The row of `id`.
    pub fn row(&self, id: i64) -> u32 {
        self.rows.get(&id).copied().unwrap_or(0)
    }

    /// The rows of `ids`; the error says what could not be had for them.
    pub fn encode(&self, ids: &[i64]) -> Result<Column<u32>, String> {
        let mut rows = Column::zeroed(ids.len())?;
        rows.iter_mut()
            .zip(ids)
            .for_each(|(row, &id)| *row = self.row(id));
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_and_unseen_ids_share_row_zero() {
        let vocabulary = Vocabulary::fit(&[9, 5, 9, 7, 5, -3, -3], 2);
        assert_eq!(vocabulary.ids(), [-3, 5, 9]);
        let rows = vocabulary.encode(&[-3, 5, 9, 7, 1000]).unwrap();
        assert_eq!(rows[..], [1, 2, 3, 0, 0]);
        assert_eq!(vocabulary.rows(), 4);
    }
}
