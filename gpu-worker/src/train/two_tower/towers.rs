//! The two towers in burn, generic over the backend. The embeddings live beside them, in [`super::table`]; a
//! tower's input is a row's embedding followed by its normalised features.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::train::rng::Rng;

/// Scores pairs: `logit = dot(user tower, item tower) + bias`.
#[derive(Module, Debug)]
pub struct TwoTower<B: Backend> {
    /// The user's tower.
    pub user: Tower<B>,
    /// The item's tower.
    pub item: Tower<B>,
    /// Added to each dot product.
    pub bias: Param<Tensor<B, 1>>,
}

/// Linear layers with ReLU between them; the last one is left linear, so that a dot product can be negative.
#[derive(Module, Debug)]
pub struct Tower<B: Backend> {
    /// The layers.
    pub layers: Vec<Linear<B>>,
}

impl<B: Backend> TwoTower<B> {
    /// Fresh towers; the numbers depend only on `seed`, not on the backend.
    pub fn new(inputs: [usize; 2], widths: &[usize], seed: u64, device: &B::Device) -> Self {
        let [user, item] = inputs;
        Self {
            user: Tower::new(user, widths, seed, 0, device),
            item: Tower::new(item, widths, seed, 1, device),
            bias: Param::from_data(TensorData::new(vec![0.0f32], [1]), device),
        }
    }

    /// Logits of rows of inputs. `masks` holds dropout masks, one a hidden layer, of either tower.
    pub fn forward(&self, inputs: [Tensor<B, 2>; 2], masks: [&[Tensor<B, 2>]; 2]) -> Tensor<B, 1> {
        let [user, item] = inputs;
        let dot = (self.user.forward(user, masks[0]) * self.item.forward(item, masks[1])).sum_dim(1);
        dot.squeeze_dim::<1>(1) + self.bias.val()
    }
}

impl<B: Backend> Tower<B> {
    fn new(inputs: usize, widths: &[usize], seed: u64, side: u64, device: &B::Device) -> Self {
        let fans = std::iter::once(&inputs).chain(widths).zip(widths).zip(0u64..);
        let layers = fans
            .map(|((&fan_in, &fan_out), layer)| {
                let mut rng = Rng::derive(&[seed, 0x746f_7765, side, layer]);
                let bound = 1.0 / (fan_in as f32).sqrt();
                let mut draw = |count: usize| -> Vec<f32> {
                    (0..count).map(|_| (2.0 * rng.uniform() - 1.0) * bound).collect()
                };
                Linear {
                    weight: Param::from_data(
                        TensorData::new(draw(fan_in * fan_out), [fan_in, fan_out]),
                        device,
                    ),
                    bias: Some(Param::from_data(
                        TensorData::new(draw(fan_out), [fan_out]),
                        device,
                    )),
                }
            })
            .collect();
        Self { layers }
    }

    fn forward(&self, mut input: Tensor<B, 2>, masks: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        for (at, layer) in self.layers.iter().enumerate() {
            input = layer.forward(input);
            if at + 1 < self.layers.len() {
                input = relu(input);
                if let Some(mask) = masks.get(at) {
                    input = input * mask.clone();
                }
            }
        }
        input
    }
}
