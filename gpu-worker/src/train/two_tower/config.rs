//! What a `train.two-tower` job can be told, its defaults and bounds. Every mistake is reported in one go.

use serde_json::Value;

use crate::train::fields::{ConfigMistakes, DeviceChoice, Fields, Location, short};

/// A job's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Name of the model, kept in the exported file (`model`, required).
    pub model: String,
    /// Where the training set lies (`dataset`, required).
    pub dataset: Location,
    /// Where the model goes (`output`, required).
    pub output: Location,
    /// Width of the user and item embeddings (`embedding_dim`, 128).
    pub embedding_dim: usize,
    /// Widths of each tower's layers (`towers`, [256, 128]).
    pub towers: Vec<usize>,
    /// Adam's learning rate (`learning_rate`, 1e-3).
    pub learning_rate: f64,
    /// Rows in a step (`batch_size`, 1024).
    pub batch_size: usize,
    /// Most epochs (`max_epochs`, 20).
    pub max_epochs: usize,
    /// Epochs without a better validation AUC before training stops (`patience`, 2).
    pub patience: usize,
    /// What all randomness comes from (`seed`, 42).
    pub seed: u64,
    /// Chance that a row's id is replaced by the unknown one, each side on its own (`id_dropout`, 0.5).
    pub id_dropout: f32,
    /// Chance that a tower's hidden unit is left out of a step (`dropout`, 0.3).
    pub dropout: f32,
    /// Decoupled decay of the towers' weights, per step and unit of learning rate (`weight_decay`, 0.01).
    pub weight_decay: f32,
    /// The same for the embedding rows a step touches (`embedding_decay`, 0.1).
    pub embedding_decay: f32,
    /// Standard deviation of fresh embeddings (`embedding_init`, 0.01).
    pub embedding_init: f32,
    /// Fewest training rows for an id to get an embedding of its own (`min_count`, 1).
    pub min_count: usize,
    /// What a user's clicks are told from, besides the items that were passed over (`negatives`, "none").
    pub negatives: Negatives,
    /// Such items for each click, at most (`negative_count`, 4).
    pub negative_count: usize,
    /// Where to train (`device`, "auto").
    pub device: DeviceChoice,
    /// How many devices share each step, or threads on the CPU (`replicas`, 1).
    pub replicas: usize,
}

/// Items that are taken for passed over, though nobody showed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negatives {
    /// None.
    None,
    /// Of other rows of the step.
    InBatch,
    /// Of any row of the training split, so each as often as it was shown.
    Sampled,
}

impl Negatives {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InBatch => "in-batch",
            Self::Sampled => "sampled",
        }
    }
}

impl TrainConfig {
    /// Reads and checks a job's configuration.
    pub fn parse(value: &Value) -> Result<Self, ConfigMistakes> {
        let mut fields = Fields::open(value);
        let config = Self {
            model: fields.text("model", None),
            dataset: fields.location("dataset"),
            output: fields.location("output"),
            embedding_dim: fields.whole("embedding_dim", 128, 1, 4096),
            towers: fields.widths("towers", &[256, 128]),
            learning_rate: fields.number("learning_rate", 1e-3, 1e-8, 1.0),
            batch_size: fields.whole("batch_size", 1024, 1, 1 << 20),
            max_epochs: fields.whole("max_epochs", 20, 1, 10_000),
            patience: fields.whole("patience", 2, 1, 10_000),
            seed: fields.whole("seed", 42, 0, usize::MAX) as u64,
            id_dropout: fields.number("id_dropout", 0.5, 0.0, 1.0) as f32,
            dropout: fields.number("dropout", 0.3, 0.0, 0.9) as f32,
            weight_decay: fields.number("weight_decay", 0.01, 0.0, 100.0) as f32,
            embedding_decay: fields.number("embedding_decay", 0.1, 0.0, 100.0) as f32,
            embedding_init: fields.number("embedding_init", 0.01, 0.0, 1.0) as f32,
            min_count: fields.whole("min_count", 1, 1, 1_000_000),
            negatives: match fields.word("negatives", &["none", "in-batch", "sampled"]) {
                "in-batch" => Negatives::InBatch,
                "sampled" => Negatives::Sampled,
                _ => Negatives::None,
            },
            negative_count: fields.whole("negative_count", 4, 1, 100),
            device: fields.device(),
            replicas: fields.replicas(),
        };
        fields.finish().map(|()| config)
    }

    /// The hyper-parameters as the registry keeps them.
    pub fn parameters(&self) -> Value {
        serde_json::json!({
            "embedding_dim": self.embedding_dim,
            "towers": self.towers,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "max_epochs": self.max_epochs,
            "patience": self.patience,
            "seed": self.seed,
            "id_dropout": short(self.id_dropout),
            "dropout": short(self.dropout),
            "weight_decay": short(self.weight_decay),
            "embedding_decay": short(self.embedding_decay),
            "embedding_init": short(self.embedding_init),
            "min_count": self.min_count,
            "negatives": self.negatives.word(),
            "negative_count": self.negative_count,
            "replicas": self.replicas,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn least() -> Value {
        json!({
            "model": "ranker",
            "dataset": {"bucket": "data", "prefix": "features/d1/"},
            "output": {"bucket": "models", "prefix": "ranker/m1/"},
        })
    }

    #[test]
    fn what_is_left_out_has_the_documented_default() {
        let config = TrainConfig::parse(&least()).unwrap();
        assert_eq!(config.embedding_dim, 128);
        assert_eq!(config.towers, [256, 128]);
        assert_eq!(
            (config.learning_rate, config.batch_size, config.seed),
            (1e-3, 1024, 42)
        );
        assert_eq!(config.dataset.key("train.parquet"), "features/d1/train.parquet");
        assert_eq!(config.parameters()["dropout"], json!(0.3));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let mut value = least();
        value["towers"] = json!([0]);
        value["batch_size"] = json!("many");
        value["learnrate"] = json!(1);
        value["device"] = json!("tpu");
        value["dataset"] = json!({"bucket": "data", "folder": "x"});
        let message = TrainConfig::parse(&value).unwrap_err().to_string();
        for part in [
            "`towers`: found [0]",
            "`batch_size`: found \"many\", allowed is a whole number from 1 to 1048576",
            "unknown key `learnrate`",
            "`device`: found \"tpu\", allowed is `cpu`, `cuda` or `auto`",
            "in `dataset`: `prefix` is missing",
            "in `dataset`: unknown key `folder`",
        ] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    #[test]
    fn a_config_that_is_no_object_is_refused() {
        let message = TrainConfig::parse(&json!([1])).unwrap_err().to_string();
        assert!(message.contains("found [1], an object was expected"), "{message}");
    }
}
