//! `ModelTrained` as the host makes it of a job's end, and the event that this step emits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_ml::promotion::Decision;
use tidegate_ml::registry::{Artifact, Comparison, ModelVersion};

use crate::train::Location;

/// `ModelTrained`.
#[derive(Clone, Debug, Deserialize)]
pub struct ModelTrained {
    /// The job.
    pub job: String,
    /// The part of the job's config that matters here.
    pub config: TrainedConfig,
    /// What the worker made.
    pub outputs: Outputs,
}

/// The part of a training job's config that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct TrainedConfig {
    /// The model's name.
    pub model: String,
    /// The training set.
    pub dataset: Location,
}

/// What the worker made.
#[derive(Clone, Debug, Deserialize)]
pub struct Outputs {
    /// The model file.
    pub model: Artifact,
    /// Metrics by split and name.
    #[serde(default)]
    pub metrics: BTreeMap<String, BTreeMap<String, Option<f64>>>,
    /// Epochs trained.
    #[serde(default)]
    pub epochs: Option<u64>,
    /// The epoch whose weights were kept.
    #[serde(default)]
    pub best_epoch: Option<u64>,
    /// The parameters that were used, defaults included.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// What the worker says of its code.
    #[serde(default)]
    pub code: Option<String>,
}

/// `ModelPromoted` or `ModelRejected`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDecided {
    /// The model's name.
    pub model: String,
    /// The version it was registered as.
    pub version: u64,
    /// What becomes of it.
    pub decision: Decision,
    /// Why.
    pub reason: String,
    /// Its metrics on the test split.
    pub metrics: BTreeMap<String, f64>,
    /// The champion it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<Comparison>,
    /// The model file.
    pub artifact: Artifact,
}

impl ModelDecided {
    /// What to tell of a version.
    pub fn of(version: &ModelVersion) -> Self {
        Self {
            model: version.model.clone(),
            version: version.version,
            decision: version.decision,
            reason: version.reason.clone(),
            metrics: version.metrics.clone(),
            compared_with: version.compared_with.clone(),
            artifact: version.artifact.clone(),
        }
    }

    /// The event's type.
    pub fn kind(&self) -> &'static str {
        match self.decision {
            Decision::Promote => "ModelPromoted",
            Decision::Candidate | Decision::Reject => "ModelRejected",
        }
    }
}
