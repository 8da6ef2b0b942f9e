//! The job kind `train.two-tower`: reads a training set, trains a two-tower ranker, writes it as ONNX.

pub mod checkpoint;
pub mod config;
pub mod dataset;
pub mod table;
pub mod towers;
pub mod trainer;
pub mod vocabulary;

use burn::backend::{Autodiff, NdArray};
use burn::tensor::backend::AutodiffBackend;
use serde_json::{Value, json};

use super::epochs::Measured;
#[cfg(feature = "cuda")]
use super::fields::DeviceChoice;
use super::tensors::numbers;
use super::{fits, written};
use crate::devices;
use crate::jobs::session::{JobError, Session};
use crate::onnx::ranker::{Dense, Ranker, Side};
use crate::train::scaling::Scaling;
use config::TrainConfig;
use dataset::{DatasetError, Manifest, Split};
use towers::Tower;
use trainer::{Encoded, Trainer};
use vocabulary::Vocabulary;

/// The name of the kind.
pub const KIND: &str = "train.two-tower";

/// A training set, read and encoded.
#[derive(Debug)]
pub struct TrainingSet {
    /// What `dataset.json` says.
    pub manifest: Manifest,
    /// Known users.
    pub users: Vocabulary,
    /// Known items.
    pub items: Vocabulary,
    /// The training split.
    pub train: Encoded,
    /// The validation split.
    pub validation: Encoded,
}

impl TrainingSet {
    /// Reads the set a job's configuration names.
    pub fn read(config: &TrainConfig, session: &dyn Session) -> Result<Self, JobError> {
        let (bucket, invalid) = (&config.dataset.bucket, |e: DatasetError| {
            JobError::Invalid(e.to_string())
        });
        let manifest = session.read(bucket, &config.dataset.key("dataset.json"))?;
        let manifest = Manifest::parse(&manifest).map_err(invalid)?;
        let read = |name: &str| {
            let file = session.download(bucket, &config.dataset.key(&format!("{name}.parquet")))?;
            Split::read(name, file, &manifest).map_err(invalid)
        };
        let (train, validation) = (read("train")?, read("validation")?);
        Self::encode(manifest, train, validation, config.min_count).map_err(JobError::OutOfMemory)
    }

    /// Fits the vocabularies on the training split and looks up both splits; the error says what could not be had.
    pub fn encode(
        manifest: Manifest,
        train: Split,
        validation: Split,
        min_count: usize,
    ) -> Result<Self, String> {
        let users = Vocabulary::fit(&train.user_id, min_count);
        let items = Vocabulary::fit(&train.item_id, min_count);
        let train = Encoded::new(train, &users, &items)?;
        let validation = Encoded::new(validation, &users, &items)?;
        Ok(Self {
            manifest,
            users,
            items,
            train,
            validation,
        })
    }

    /// Bytes of the embedding tables while they are trained: weights, two moments, and the best weights so far.
    fn bytes(&self, config: &TrainConfig) -> u64 {
        let rows = (self.users.rows() + self.items.rows()) as u64;
        rows * config.embedding_dim as u64 * 16
    }

    /// A fresh trainer for this set; of no devices, on the default one.
    pub fn trainer<B: AutodiffBackend>(
        &self,
        config: &TrainConfig,
        devices: Vec<B::Device>,
    ) -> Result<Trainer<B>, JobError> {
        let rows = [self.users.rows(), self.items.rows()];
        let features = [
            self.manifest.user_features.len(),
            self.manifest.item_features.len(),
        ];
        Trainer::new(config.clone(), &self.manifest.digest, rows, features, devices)
    }
}

/// Runs a job to its outputs.
pub fn run(config: &Value, session: &dyn Session) -> Result<Value, JobError> {
    let config = TrainConfig::parse(config).map_err(|mistakes| JobError::Invalid(mistakes.to_string()))?;
    match devices::choose(config.device, config.replicas).map_err(JobError::Invalid)? {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => {
            run_on::<Autodiff<burn::backend::Cuda>>(&config, session, devices::cuda(config.replicas))
        }
        _ => run_on::<Autodiff<NdArray<f32>>>(&config, session, vec![Default::default(); config.replicas]),
    }
}

fn run_on<B: AutodiffBackend>(
    config: &TrainConfig,
    session: &dyn Session,
    devices: Vec<B::Device>,
) -> Result<Value, JobError> {
    let set = TrainingSet::read(config, session)?;
    fits(
        set.bytes(config),
        "its embedding tables",
        "a smaller `embedding_dim` or a larger `min_count`",
    )?;
    let mut trainer = set.trainer::<B>(config, devices)?;
    trainer.resume(session)?;
    let measured = trainer.run(&set, session)?;
    let model = written(session, &config.output, ranker(config, &set, &trainer).to_onnx())?;
    Ok(outputs(config, &set.manifest, model, measured))
}

fn outputs(config: &TrainConfig, manifest: &Manifest, model: Value, measured: Measured) -> Value {
    measured.add_to(json!({
        "model": model,
        "parameters": config.parameters(),
        "dataset": manifest.dataset,
        "dataset_digest": manifest.digest,
    }))
}

/// The trained model, free of burn.
pub fn ranker<B: AutodiffBackend>(config: &TrainConfig, set: &TrainingSet, trainer: &Trainer<B>) -> Ranker {
    let [users, items] = trainer.tables();
    let side =
        |vocabulary: &Vocabulary, table: &table::EmbeddingTable, scaling: &Scaling, tower: &Tower<B>| Side {
            ids: vocabulary.ids().to_vec(),
            table: table.weights().to_vec(),
            dim: table.dim(),
            scaling: scaling.clone(),
            layers: tower.layers.iter().map(dense).collect(),
        };
    let (scaling, model) = (&set.manifest.normalisation, trainer.model());
    let names = |names: &[String]| Value::from(names.to_vec()).to_string();
    Ranker {
        name: config.model.clone(),
        user: side(&set.users, users, &scaling.user, &model.user),
        item: side(&set.items, items, &scaling.item, &model.item),
        bias: numbers(model.bias.val()).first().copied().unwrap_or(0.0),
        properties: vec![
            ("user_features", names(&set.manifest.user_features)),
            ("item_features", names(&set.manifest.item_features)),
            ("dataset_digest", set.manifest.digest.clone()),
        ],
    }
}

fn dense<B: AutodiffBackend>(layer: &burn::nn::Linear<B>) -> Dense {
    let weights = numbers(layer.weight.val());
    let bias = layer
        .bias
        .as_ref()
        .map(|bias| numbers(bias.val()))
        .unwrap_or_default();
    Dense { weights, bias }
}

#[cfg(test)]
pub(crate) mod tests;
