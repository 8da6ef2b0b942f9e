//! The job kind `train.mlp`: layers of batch norm, ReLU and dropout on tabular data, one logit at the end.

pub mod config;
pub mod network;
pub mod trainer;

use burn::backend::{Autodiff, NdArray};
use burn::tensor::backend::AutodiffBackend;
use serde_json::Value;

use super::epochs;
#[cfg(feature = "cuda")]
use super::fields::DeviceChoice;
use super::written;
use crate::devices;
use crate::jobs::session::{JobError, Session};
use config::MlpConfig;
use trainer::Trainer;

/// The name of the kind.
pub const KIND: &str = "train.mlp";

/// Runs a job to its outputs.
pub fn run(config: &Value, session: &dyn Session) -> Result<Value, JobError> {
    let config = MlpConfig::parse(config).map_err(|mistakes| JobError::Invalid(mistakes.to_string()))?;
    match devices::choose(config.device, config.replicas).map_err(JobError::Invalid)? {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => {
            run_on::<Autodiff<burn::backend::Cuda>>(&config, session, devices::cuda(config.replicas))
        }
        _ => run_on::<Autodiff<NdArray<f32>>>(&config, session, vec![Default::default(); config.replicas]),
    }
}

fn run_on<B: AutodiffBackend>(
    config: &MlpConfig,
    session: &dyn Session,
    devices: Vec<B::Device>,
) -> Result<Value, JobError> {
    let [train, validation] = config.source.read(session)?;
    let mut trainer = Trainer::<B>::new(config.clone(), train, validation, devices)?;
    let mut state = trainer.resume(session)?;
    let measured = epochs::train(&mut trainer, &mut state, &config.plan(epochs::pace()), session)?;
    let model = written(session, &config.source.output, trainer.exported().to_onnx())?;
    let outputs = config.source.outputs(KIND, model, config.parameters());
    Ok(measured.add_to(outputs))
}

#[cfg(test)]
mod tests;
