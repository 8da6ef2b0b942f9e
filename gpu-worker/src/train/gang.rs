//! A step by several devices of one machine: each takes a share of the rows through a model of its own, and what they found
//! is added up in one order, whichever was first. So training ends in the same bits each time.

use std::ops::Range;

use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::tensors::numbers;

/// The devices that share each step. The first one has the model itself, every other one a replica.
pub struct Gang<B: AutodiffBackend, M> {
    first: B::Device,
    others: Vec<(B::Device, M)>,
}

/// What came of a share, or of all of them.
pub struct Part<R> {
    /// The loss, as far as these rows are the whole.
    pub loss: f64,
    /// How it changes with the model.
    pub gradients: GradientsParams,
    /// What else there is.
    pub rest: R,
}

impl<R> Part<R> {
    /// The loss that `model` came to, its gradients, and what `rest` takes out of them besides.
    pub fn of<B: AutodiffBackend, M: AutodiffModule<B>>(
        loss: Tensor<B, 1>,
        model: &M,
        rest: impl FnOnce(&mut B::Gradients) -> R,
    ) -> Self {
        let value = numbers(loss.clone().inner()).first().copied();
        let mut gradients = loss.backward();
        Self {
            loss: f64::from(value.unwrap_or(f32::NAN)),
            rest: rest(&mut gradients),
            gradients: GradientsParams::from_grads(gradients, model),
        }
    }
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> Gang<B, M> {
    /// A gang of these devices, or of the default one where there are none; `replica` makes a model on a device, with
    /// whatever weights.
    pub fn new(devices: Vec<B::Device>, replica: impl Fn(&B::Device) -> M) -> Self {
        let mut devices = devices.into_iter();
        let first = devices.next().unwrap_or_default();
        let others = devices.map(|device| (device.clone(), replica(&device)));
        Self {
            first,
            others: others.collect(),
        }
    }

    /// The device of the model itself.
    pub fn first(&self) -> &B::Device {
        &self.first
    }

    /// Cuts so many rows into a share for each device, one after another; of few rows fewer.
    pub fn shares(&self, rows: usize) -> Vec<Range<usize>> {
        let each = rows.div_ceil(self.others.len() + 1).max(1);
        let starts = (0..rows).step_by(each);
        starts.map(|start| start..(start + each).min(rows)).collect()
    }

    /// Works on the shares, each on a device of its own and at one time; the sums are on the first device.
    pub fn step<S: Send, R: Send>(
        &mut self,
        model: &M,
        shares: Vec<S>,
        work: impl Fn(&M, S, &B::Device) -> Part<R> + Sync,
    ) -> Part<Vec<R>> {
        let mut shares = shares.into_iter();
        let own = shares.next();
        let (first, work) = (&self.first, &work);
        let parts: Vec<Part<R>> = std::thread::scope(|scope| {
            let others = self.others.iter_mut().zip(shares);
            let others: Vec<_> = others
                .map(|((device, replica), share)| {
                    follow(replica, model, device);
                    scope.spawn(move || {
                        let part = work(replica, share, device);
                        let gradients = part.gradients.to_device(first, &*replica);
                        Part { gradients, ..part }
                    })
                })
                .collect();
            let own = own.map(|share| work(model, share, first));
            let joined = others.into_iter().map(|other| {
                let ended = other.join();
                ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            own.into_iter().chain(joined).collect()
        });
        sum(model, parts)
    }
}

/// Gives a replica the weights of the model.
fn follow<B: AutodiffBackend, M: AutodiffModule<B>>(replica: &mut M, model: &M, device: &B::Device) {
    // What its norms saw of the last step is kept by thread until somebody reads it, and the threads of a step are new ones.
    drop(replica.clone().into_record());
    let record = model.clone().into_record();
    *replica = replica.clone().load_record(record).fork(device);
}

fn sum<B: AutodiffBackend, M: AutodiffModule<B>, R>(model: &M, parts: Vec<Part<R>>) -> Part<Vec<R>> {
    let mut gradients = GradientsAccumulator::new();
    let (mut loss, mut rest) = (0.0, Vec::with_capacity(parts.len()));
    for part in parts {
        loss += part.loss;
        gradients.accumulate(model, part.gradients);
        rest.push(part.rest);
    }
    Part {
        loss,
        gradients: gradients.grads(),
        rest,
    }
}
