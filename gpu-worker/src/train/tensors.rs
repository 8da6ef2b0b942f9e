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

/// Some of `values`, which are so many rows.
pub fn lines(values: &[f32], rows: usize, at: &Range<usize>) -> Vec<f32> {
    let width = values.len() / rows.max(1);
    values[at.start * width..at.end * width].to_vec()
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

/// A dropout mask of so many rows: 0, or what keeps the expectation.
pub fn dropout_mask(rows: usize, width: usize, dropout: f32, rng: &mut Rng) -> Vec<f32> {
    let keep = 1.0 / (1.0 - dropout);
    let threshold = (dropout * 65_536.0) as u64;
    let count = rows * width;
    let words = (0..count.div_ceil(4)).map(|_| rng.next_u64());
    let parts = words.flat_map(|word| [word, word >> 16, word >> 32, word >> 48]);
    parts
        .take(count)
        .map(|part| if part & 0xffff < threshold { 0.0 } else { keep })
        .collect()
}

/// The numbers of a tensor, in row order.
pub fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// The training state cannot be written down now.
pub fn transient(error: impl std::fmt::Display) -> JobError {
    JobError::Transient(format!("cannot record the training state: {error}"))
}
