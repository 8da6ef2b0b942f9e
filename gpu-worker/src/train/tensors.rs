//! What the trainers in burn share: losses, masks, and numbers out of tensors.

use std::ops::Range;

use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::rng::Rng;
use crate::jobs::session::JobError;

/// So many rows of numbers, as a tensor.
pub fn matrix<B: Backend>(values: Vec<f32>, rows: usize, device: &B::Device) -> Tensor<B, 2> {
    let width = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

/// A tensor of numbers.
pub fn vector<B: Backend>(values: Vec<f32>, device: &B::Device) -> Tensor<B, 1> {
    let size = values.len();
    Tensor::from_data(TensorData::new(values, [size]), device)
}

/// Binary cross-entropy with logits of each row, in the form that cannot overflow.
pub fn row_losses<B: Backend>(logits: Tensor<B, 1>, labels: Tensor<B, 1>) -> Tensor<B, 1> {
    let linear = relu(logits.clone()) - logits.clone() * labels;
    linear + logits.abs().neg().exp().log1p()
}

/// The mean of it.
pub fn bce_with_logits<B: Backend>(logits: Tensor<B, 1>, labels: Tensor<B, 1>) -> Tensor<B, 1> {
    row_losses(logits, labels).mean()
}

/// Dropout masks of these rows of a step, one for each width: 0, or what keeps the expectation; none without dropout.
/// Each row has a generator of its own, so that what is left out does not depend on who works on it.
pub fn dropout_masks(
    widths: &[usize],
    dropout: f32,
    rows: Range<usize>,
    luck: impl Fn(u64) -> Rng,
) -> Vec<Vec<f32>> {
    let widths = if dropout > 0.0 { widths } else { &[] };
    let (keep, threshold) = (1.0 / (1.0 - dropout), (dropout * 65_536.0) as u64);
    let mask = |width: &usize| vec![0.0; width * rows.len()];
    let mut masks: Vec<Vec<f32>> = widths.iter().map(mask).collect();
    for (line, row) in rows.enumerate() {
        let mut rng = luck(row as u64);
        for (mask, &width) in masks.iter_mut().zip(widths) {
            for four in mask[line * width..(line + 1) * width].chunks_mut(4) {
                let mut word = rng.next_u64();
                for value in four {
                    *value = if word & 0xffff < threshold { 0.0 } else { keep };
                    word >>= 16;
                }
            }
        }
    }
    masks
}

/// The numbers of a tensor, in row order.
pub fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// The training state cannot be written down now.
pub fn transient(error: impl std::fmt::Display) -> JobError {
    JobError::Transient(format!("cannot record the training state: {error}"))
}
