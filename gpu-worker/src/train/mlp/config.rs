//! What a `train.mlp` job can be told, its defaults and bounds.

use serde_json::{Value, json};

use crate::train::epochs::Plan;
use crate::train::fields::{ConfigMistakes, DeviceChoice, Fields, short};
use crate::train::pace::Pace;
use crate::train::tabular::Source;

/// A job's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpConfig {
    /// The data, and where the model goes.
    pub source: Source,
    /// Widths of the hidden layers (`hidden`, [512, 256, 128]).
    pub hidden: Vec<usize>,
    /// Chance that a hidden unit is left out of a step (`dropout`, 0.3).
    pub dropout: f32,
    /// Adam's learning rate (`learning_rate`, 1e-3).
    pub learning_rate: f64,
    /// Decoupled decay of the weights, per step and unit of learning rate (`weight_decay`, 0.01).
    pub weight_decay: f32,
    /// Rows in a step; batch norm needs two (`batch_size`, 1024).
    pub batch_size: usize,
    /// Most epochs (`max_epochs`, 50).
    pub max_epochs: usize,
    /// Epochs without a better validation AUC before training stops (`patience`, 5).
    pub patience: usize,
    /// What all randomness comes from (`seed`, 42).
    pub seed: u64,
    /// Where to train (`device`, "auto").
    pub device: DeviceChoice,
    /// How many devices share each step, or threads on the CPU (`replicas`, 1).
    pub replicas: usize,
}

impl MlpConfig {
    /// Reads and checks a job's configuration.
    pub fn parse(value: &Value) -> Result<Self, ConfigMistakes> {
        let mut fields = Fields::open(value);
        let config = Self {
            source: Source::parse(&mut fields),
            hidden: fields.widths("hidden", &[512, 256, 128]),
            dropout: fields.number("dropout", 0.3, 0.0, 0.9) as f32,
            learning_rate: fields.number("learning_rate", 1e-3, 1e-8, 1.0),
            weight_decay: fields.number("weight_decay", 0.01, 0.0, 100.0) as f32,
            batch_size: fields.whole("batch_size", 1024, 2, 1 << 20),
            max_epochs: fields.whole("max_epochs", 50, 1, 10_000),
            patience: fields.whole("patience", 5, 1, 10_000),
            seed: fields.whole("seed", 42, 0, usize::MAX) as u64,
            device: fields.device(),
            replicas: fields.replicas(),
        };
        fields.finish().map(|()| config)
    }

    /// How long to train.
    pub fn plan(&self, pace: Pace) -> Plan {
        Plan {
            max_epochs: self.max_epochs,
            patience: self.patience,
            batch_size: self.batch_size,
            seed: self.seed,
            pace,
            unit: "epoch",
        }
    }

    /// The hyper-parameters as the registry keeps them.
    pub fn parameters(&self) -> Value {
        json!({
            "hidden": self.hidden,
            "dropout": short(self.dropout),
            "learning_rate": self.learning_rate,
            "weight_decay": short(self.weight_decay),
            "batch_size": self.batch_size,
            "max_epochs": self.max_epochs,
            "patience": self.patience,
            "seed": self.seed,
            "replicas": self.replicas,
            "class_weights": self.source.class_weights.parameter(),
        })
    }
}
