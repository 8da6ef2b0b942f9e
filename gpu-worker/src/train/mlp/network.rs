//! The network in burn, generic over the backend.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::onnx::ranker::Dense;
use crate::train::rng::Rng;
use crate::train::tensors::numbers;

/// Hidden layers, each with its norm, and the layer of the logit.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    hidden: Vec<Linear<B>>,
    norms: Vec<BatchNorm<B>>,
    logit: Linear<B>,
}

impl<B: Backend> Network<B> {
    /// A fresh network; the numbers depend only on `seed`, not on the backend.
    pub fn new(inputs: usize, widths: &[usize], seed: u64, device: &B::Device) -> Self {
        let fans = std::iter::once(&inputs).chain(widths).zip(widths).zip(0u64..);
        let hidden = fans.map(|((&fan_in, &fan_out), layer)| linear(fan_in, fan_out, &[seed, layer], device));
        let last = widths.last().copied().unwrap_or(inputs);
        Self {
            hidden: hidden.collect(),
            norms: widths
                .iter()
                .map(|&width| BatchNormConfig::new(width).init(device))
                .collect(),
            logit: linear(last, 1, &[seed, widths.len() as u64], device),
        }
    }

    /// Logits of rows of inputs; `masks` holds dropout masks, one a hidden layer, or none.
    pub fn forward(&self, mut input: Tensor<B, 2>, masks: &[Tensor<B, 2>]) -> Tensor<B, 1> {
        for (at, (layer, norm)) in self.hidden.iter().zip(&self.norms).enumerate() {
            input = relu(norm.forward(layer.forward(input)));
            if let Some(mask) = masks.get(at) {
                input = input * mask.clone();
            }
        }
        self.logit.forward(input).squeeze_dim::<1>(1)
    }

    /// The layers as they are in use: each norm is multiplied into the layer before it.
    pub fn layers(&self) -> Vec<Dense> {
        let hidden = self
            .hidden
            .iter()
            .zip(&self.norms)
            .map(|(layer, norm)| folded(layer, norm));
        hidden.chain([dense(&self.logit)]).collect()
    }
}

/// Uniform numbers in the range that He and others found for ReLU.
fn linear<B: Backend>(fan_in: usize, fan_out: usize, parts: &[u64], device: &B::Device) -> Linear<B> {
    let mut rng = Rng::derive(&[&[0x006d_6c70], parts].concat());
    let bound = (6.0 / fan_in.max(1) as f32).sqrt();
    let weights: Vec<f32> = (0..fan_in * fan_out)
        .map(|_| (2.0 * rng.uniform() - 1.0) * bound)
        .collect();
    Linear {
        weight: Param::from_data(TensorData::new(weights, [fan_in, fan_out]), device),
        bias: Some(Param::from_data(
            TensorData::new(vec![0.0f32; fan_out], [fan_out]),
            device,
        )),
    }
}

fn dense<B: Backend>(layer: &Linear<B>) -> Dense {
    let bias = layer.bias.as_ref().map(|bias| numbers(bias.val()));
    Dense {
        weights: numbers(layer.weight.val()),
        bias: bias.unwrap_or_default(),
    }
}

fn folded<B: Backend>(layer: &Linear<B>, norm: &BatchNorm<B>) -> Dense {
    let mut layer = dense(layer);
    let (mean, variance) = (
        numbers(norm.running_mean.value()),
        numbers(norm.running_var.value()),
    );
    let (gamma, beta) = (numbers(norm.gamma.val()), numbers(norm.beta.val()));
    let factors: Vec<f32> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| gamma / (variance + norm.epsilon as f32).sqrt())
        .collect();
    for line in layer.weights.chunks_exact_mut(factors.len().max(1)) {
        line.iter_mut()
            .zip(&factors)
            .for_each(|(weight, factor)| *weight *= factor);
    }
    for (((bias, mean), factor), beta) in layer.bias.iter_mut().zip(&mean).zip(&factors).zip(&beta) {
        *bias = (*bias - mean) * factor + beta;
    }
    layer
}
