//! A step by several devices of one machine: each takes a share of the rows through a model of its own, and what they found
//! is added up in one order, whichever was first. So training ends in the same bits each time.

use std::ops::Range;

use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::tensors::numbers;
use crate::jobs::session::JobError;

/// The devices that share each step. The first one has the model itself, every other one a replica.
pub struct Gang<B: AutodiffBackend, M> {
    first: B::Device,
    others: Vec<(B::Device, M)>,
    /// One for each of the others.
    threads: ThreadPool,
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
    pub fn new(devices: Vec<B::Device>, replica: impl Fn(&B::Device) -> M) -> Result<Self, JobError> {
        let mut devices = devices.into_iter();
        let first = devices.next().unwrap_or_default();
        let others: Vec<_> = devices.map(|device| (device.clone(), replica(&device))).collect();
        let threads = ThreadPoolBuilder::new().num_threads(others.len().max(1)).build();
        Ok(Self {
            first,
            others,
            threads: threads
                .map_err(|error| JobError::Transient(format!("no threads for replicas: {error}")))?,
        })
    }

    /// The device of the model itself.
    pub fn first(&self) -> &B::Device {
        &self.first
    }

    /// Has each device work on a range of so many rows, or fewer devices on few rows. What they come to is in the order of
    /// the rows.
    pub fn each<R: Send>(
        &mut self,
        model: &M,
        rows: usize,
        work: impl Fn(&M, Range<usize>, &B::Device) -> R + Sync,
    ) -> Vec<R> {
        let size = rows.div_ceil(self.others.len() + 1).max(1);
        let mut shares = (0..rows)
            .step_by(size)
            .map(|start| start..(start + size).min(rows));
        let Some(own) = shares.next() else {
            return Vec::new();
        };
        let (first, work) = (&self.first, &work);
        let mut found: Vec<Option<R>> = shares.clone().map(|_| None).collect();
        let own = self.threads.in_place_scope(|scope| {
            for (((device, replica), at), found) in self.others.iter_mut().zip(shares).zip(&mut found) {
                follow(replica, model, device);
                scope.spawn(move |_| *found = Some(work(replica, at, device)));
            }
            work(model, own, first)
        });
        std::iter::once(own).chain(found.into_iter().flatten()).collect()
    }

    /// A step on so many rows: what each device found of its share is added up on the first one.
    pub fn step<R: Send>(
        &mut self,
        model: &M,
        rows: usize,
        work: impl Fn(&M, Range<usize>, &B::Device) -> Part<R> + Sync,
    ) -> Part<Vec<R>> {
        let first = self.first.clone();
        let parts = self.each(model, rows, |model, at, device| {
            let part = work(model, at, device);
            Part {
                gradients: part.gradients.to_device(&first, model),
                ..part
            }
        });
        sum(model, parts)
    }

    /// Does both, at one time where there are threads for that.
    pub fn both(&self, one: impl FnOnce() + Send, other: impl FnOnce()) {
        match self.others.is_empty() {
            true => {
                one();
                other();
            }
            false => self.threads.in_place_scope(|scope| {
                scope.spawn(|_| one());
                other();
            }),
        }
    }
}

/// Gives a replica the weights of the model.
fn follow<B: AutodiffBackend, M: AutodiffModule<B>>(replica: &mut M, model: &M, device: &B::Device) {
    // What its norms saw of the last step is kept by thread until somebody reads it, and the next step may have another.
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
