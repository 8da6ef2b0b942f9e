//! What jobs that grow trees can be told, their defaults and bounds.

use serde_json::{Value, json};

use super::FOREST;
use crate::train::fields::{ConfigMistakes, Fields};
use crate::train::tabular::Source;

/// A job's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct TreesConfig {
    /// Whether trees are averaged; else each corrects those before it.
    pub forest: bool,
    /// The data, and where the model goes.
    pub source: Source,
    /// Trees at most (`trees`, 300; of a forest 200).
    pub trees: usize,
    /// Splits between the root and a leaf at most (`max_depth`, 6; of a forest 14).
    pub max_depth: usize,
    /// Rows of a leaf at least (`min_leaf`, 20; of a forest 2).
    pub min_leaf: usize,
    /// How much of each tree counts (`learning_rate`, 0.1; a forest has none).
    pub learning_rate: f64,
    /// Regularisation of leaves (`l2`, 1; a forest has none).
    pub l2: f64,
    /// The part of the rows that a tree sees (`subsample`, 1); a forest draws as many as there are, with replacement.
    pub subsample: f64,
    /// The part of the features that a split may choose from (`features_per_split`, 1; of a forest about the root of their number).
    pub features_per_split: f64,
    /// Trees without a better validation AUC before training stops (`patience`, 20; of a forest none stops it).
    pub patience: usize,
    /// What all randomness comes from (`seed`, 42).
    pub seed: u64,
}

impl TreesConfig {
    /// Reads and checks the configuration of a job of a kind.
    pub fn parse(kind: &str, value: &Value) -> Result<Self, ConfigMistakes> {
        let forest = kind == FOREST;
        let mut fields = Fields::open(value);
        let source = Source::parse(&mut fields);
        let trees = fields.whole("trees", if forest { 200 } else { 300 }, 1, 10_000);
        let root = 1.0 / (source.features.len().max(1) as f64).sqrt();
        let mut boosting = |name, default, least, most| match forest {
            false => fields.number(name, default, least, most),
            true => default,
        };
        let (learning_rate, l2) = (
            boosting("learning_rate", 0.1, 1e-4, 1.0),
            boosting("l2", 1.0, 0.0, 1e6),
        );
        let subsample = boosting("subsample", 1.0, 0.01, 1.0);
        let config = Self {
            forest,
            source,
            trees,
            max_depth: fields.whole("max_depth", if forest { 14 } else { 6 }, 1, 30),
            min_leaf: fields.whole("min_leaf", if forest { 2 } else { 20 }, 1, 1_000_000),
            learning_rate,
            l2,
            subsample,
            features_per_split: fields.number(
                "features_per_split",
                if forest { root } else { 1.0 },
                0.001,
                1.0,
            ),
            patience: fields.whole("patience", if forest { trees } else { 20 }, 1, 10_000),
            seed: fields.whole("seed", 42, 0, usize::MAX) as u64,
        };
        fields.finish().map(|()| config)
    }

    /// The hyper-parameters as the registry keeps them.
    pub fn parameters(&self) -> Value {
        let mut parameters = json!({
            "trees": self.trees,
            "max_depth": self.max_depth,
            "min_leaf": self.min_leaf,
            "features_per_split": self.features_per_split,
            "patience": self.patience,
            "seed": self.seed,
            "class_weights": self.source.class_weights.parameter(),
        });
        if !self.forest {
            parameters["learning_rate"] = self.learning_rate.into();
            parameters["l2"] = self.l2.into();
            parameters["subsample"] = self.subsample.into();
        }
        parameters
    }
}
