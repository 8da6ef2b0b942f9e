//! What the trainers in burn share: losses, masks, and numbers out of tensors.

use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::rng::Rng;
use crate::jobs::session::JobError;

/// Binary cross-entropy with logits of each row, in the form that cannot overflow.
pub fn row_losses<B: Backend>(logits: Tensor<B, 1>, labels: Tensor<B, 1>) -> Tensor<B, 1> {
    let linear = relu(logits.clone()) - logits.clone() * labels;
    linear + logits.abs().neg().exp().log1p()
}

/// The mean of it.
pub fn bce_with_logits<B: Backend>(logits: Tensor<B, 1>, labels: Tensor<B, 1>) -> Tensor<B, 1> {
    row_losses(logits, labels).mean()
}

/// A dropout mask: 0, or what keeps the expectation.
pub fn dropout_mask<B: Backend>(
    rows: usize,
    width: usize,
    dropout: f32,
    rng: &mut Rng,
    device: &B::Device,
) -> Tensor<B, 2> {
    let keep = 1.0 / (1.0 - dropout);
    let threshold = (dropout * 65_536.0) as u64;
    let count = rows * width;
    let words = (0..count.div_ceil(4)).map(|_| rng.next_u64());
    let parts = words.flat_map(|word| [word, word >> 16, word >> 32, word >> 48]);
    let mask: Vec<f32> = parts
        .take(count)
        .map(|part| if part & 0xffff < threshold { 0.0 } else { keep })
        .collect();
    Tensor::from_data(TensorData::new(mask, [rows, width]), device)
}

/// The numbers of a tensor, in row order.
pub fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// The training state cannot be written down now.
pub fn transient(error: impl std::fmt::Display) -> JobError {
    JobError::Transient(format!("cannot record the training state: {error}"))
}
