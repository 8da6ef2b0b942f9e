//! Embedding tables with lazy Adam: only the rows a batch touches are moved, and only they have state.
//!
//! A dense Adam step over 60,000 rows of 128 costs some hundred times what the batch itself needs. Here the tables
//! lie in ordinary memory: a step copies the batch's rows into the towers' input, burn differentiates by that
//! input, and the gradient is summed per row (in batch order, so that the result never depends on timing) and
//! applied with Adam's rule. Each row counts its own steps, so a row first seen late starts as a fresh one does.

use crate::train::rng::Rng;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const EPSILON: f32 = 1e-5;

/// One side's embeddings.
#[derive(Debug, Clone)]
pub struct EmbeddingTable {
    dim: usize,
    weights: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: Vec<u32>,
    /// Scratch: the batch's rows, and for each table row where its gradient is summed (`u32::MAX`: nowhere).
    touched: Vec<u32>,
    slots: Vec<u32>,
    sums: Vec<f32>,
}

/// A touched row as a checkpoint keeps it: `values` holds weights, first and second moments.
#[derive(Debug, Clone, PartialEq)]
pub struct RowState {
    /// The row.
    pub row: u32,
    /// Steps it took part in.
    pub steps: u32,
    /// Three times the width.
    pub values: Vec<f32>,
}

impl EmbeddingTable {
    /// A table of small normal numbers; row r depends only on `seed`, `side` and r.
    pub fn new(rows: usize, dim: usize, deviation: f32, seed: u64, side: u64) -> Self {
        let mut weights = Vec::with_capacity(rows * dim);
        for row in 0..rows as u64 {
            let mut rng = Rng::derive(&[seed, 0x7461_626c, side, row]);
            weights.extend((0..dim).map(|_| rng.normal() * deviation));
        }
        Self {
            dim,
            first: vec![0.0; weights.len()],
            second: vec![0.0; weights.len()],
            weights,
            steps: vec![0; rows],
            touched: Vec::new(),
            slots: vec![u32::MAX; rows],
            sums: Vec::new(),
        }
    }

    /// Width of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All weights, row by row.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The weights of a row.
    pub fn row(&self, row: u32) -> &[f32] {
        let start = row as usize * self.dim;
        self.weights.get(start..start + self.dim).unwrap_or(&[])
    }

    /// Puts other weights in place, of the same shape; for use, not for further training.
    pub fn set_weights(&mut self, weights: &[f32]) {
        self.weights.clear();
        self.weights.extend_from_slice(weights);
    }

    /// One Adam step. The parts of `gradient` have, one after another, a line of `stride` numbers for each of `rows`, the
    /// embedding's first.
    pub fn update<'a>(
        &mut self,
        rows: &[u32],
        gradient: impl IntoIterator<Item = &'a [f32]>,
        stride: usize,
        rate: f32,
        decay: f32,
    ) {
        self.sum_by_row(rows, gradient.into_iter(), stride);
        let touched = std::mem::take(&mut self.touched);
        for (slot, &row) in touched.iter().enumerate() {
            self.move_row(row as usize, slot, rate, decay);
            self.slots[row as usize] = u32::MAX;
        }
        self.touched = touched;
    }

    fn sum_by_row<'a>(&mut self, rows: &[u32], gradient: impl Iterator<Item = &'a [f32]>, stride: usize) {
        self.touched.clear();
        self.sums.clear();
        for (&row, line) in rows
            .iter()
            .zip(gradient.flat_map(|part| part.chunks_exact(stride)))
        {
            let slot = &mut self.slots[row as usize];
            if *slot == u32::MAX {
                *slot = self.touched.len() as u32;
                self.touched.push(row);
                self.sums.extend_from_slice(&line[..self.dim]);
            } else {
                let start = *slot as usize * self.dim;
                let sums = &mut self.sums[start..start + self.dim];
                sums.iter_mut().zip(line).for_each(|(sum, part)| *sum += part);
            }
        }
    }

    fn move_row(&mut self, row: usize, slot: usize, rate: f32, decay: f32) {
        self.steps[row] += 1;
        let steps = self.steps[row].min(1 << 20) as i32;
        let (correct_1, correct_2) = (1.0 / (1.0 - BETA_1.powi(steps)), 1.0 / (1.0 - BETA_2.powi(steps)));
        let keep = 1.0 - rate * decay;
        let at = row * self.dim..(row + 1) * self.dim;
        let gradient = &self.sums[slot * self.dim..(slot + 1) * self.dim];
        let state = self.first[at.clone()]
            .iter_mut()
            .zip(&mut self.second[at.clone()]);
        for ((weight, (m, v)), g) in self.weights[at].iter_mut().zip(state).zip(gradient) {
            *m = BETA_1 * *m + (1.0 - BETA_1) * g;
            *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
            *weight = *weight * keep - rate * (*m * correct_1) / ((*v * correct_2).sqrt() + EPSILON);
        }
    }

    /// The rows that ever moved, for a checkpoint.
    pub fn moved(&self) -> impl Iterator<Item = RowState> + '_ {
        (0..self.steps.len())
            .filter(|&row| self.steps[row] > 0)
            .map(|row| {
                let at = row * self.dim..(row + 1) * self.dim;
                let values = [
                    &self.weights[at.clone()],
                    &self.first[at.clone()],
                    &self.second[at],
                ]
                .concat();
                RowState {
                    row: row as u32,
                    steps: self.steps[row],
                    values,
                }
            })
    }

    /// Puts a row back as a checkpoint kept it; false where it does not fit the table.
    #[must_use]
    pub fn restore(&mut self, state: &RowState) -> bool {
        let row = state.row as usize;
        if row >= self.steps.len() || state.values.len() != 3 * self.dim {
            return false;
        }
        let at = row * self.dim..(row + 1) * self.dim;
        let (weights, moments) = state.values.split_at(self.dim);
        let (first, second) = moments.split_at(self.dim);
        self.weights[at.clone()].copy_from_slice(weights);
        self.first[at.clone()].copy_from_slice(first);
        self.second[at].copy_from_slice(second);
        self.steps[row] = state.steps;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_met_twice_in_a_batch_moves_once_by_the_sum() {
        let mut once = EmbeddingTable::new(3, 2, 0.1, 1, 0);
        let mut twice = once.clone();
        once.update(&[1], [&[3.0, -1.0, 9.0][..]], 3, 0.01, 0.0);
        twice.update(&[1, 1], [&[1.0, -2.0, 9.0, 2.0, 1.0, 9.0][..]], 3, 0.01, 0.0);
        assert_eq!(once.weights(), twice.weights());
        assert_eq!(once.moved().count(), 1);
    }

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_gradient() {
        let mut table = EmbeddingTable::new(2, 2, 0.0, 1, 0);
        table.update(&[1], [&[5.0, -0.5][..]], 2, 0.01, 0.0);
        assert!((table.row(1)[0] + 0.01).abs() < 1e-5 && (table.row(1)[1] - 0.01).abs() < 1e-5);
        assert_eq!(table.row(0), [0.0, 0.0]);
    }

    #[test]
    fn a_restored_table_goes_on_as_the_original() {
        let mut table = EmbeddingTable::new(4, 2, 0.1, 5, 1);
        table.update(&[2, 3], [&[0.3, 0.1, -0.4, 0.2][..]], 2, 0.01, 0.1);
        let mut restored = EmbeddingTable::new(4, 2, 0.1, 5, 1);
        assert!(table.moved().all(|state| restored.restore(&state)));
        for each in [&mut table, &mut restored] {
            each.update(&[3, 1], [&[0.7, 0.1, -0.2, 0.2][..]], 2, 0.01, 0.1);
        }
        assert_eq!(table.weights(), restored.weights());
        assert!(!restored.restore(&RowState {
            row: 9,
            steps: 1,
            values: vec![0.0; 6]
        }));
    }
}
