//! The record of a new version.

use std::collections::BTreeMap;

use tidegate_ml::promotion::decide;
use tidegate_ml::registry::{Comparison, Dataset, ModelVersion, Origin, Signature};

use super::messages::ModelTrained;
use crate::features::training::Manifest;

/// What is needed to register a version.
pub struct Registration<'a> {
    /// The number it gets.
    pub version: u64,
    /// When, in milliseconds since the Unix epoch.
    pub created: u64,
    /// The job's end.
    pub trained: &'a ModelTrained,
    /// The training set.
    pub manifest: &'a Manifest,
    /// Metrics on the test split.
    pub metrics: BTreeMap<String, f64>,
    /// The champion, where there is one.
    pub champion: Option<Comparison>,
    /// The event and the trace that led here.
    pub origin: Origin,
}

impl Registration<'_> {
    /// Decides, and writes the record.
    pub fn record(self) -> ModelVersion {
        let auc = self.metrics.get("auc").copied().unwrap_or(f64::NAN);
        let verdict = decide(auc, self.champion.as_ref().map(|champion| champion.auc));
        let (trained, manifest) = (self.trained, self.manifest);
        let mut metrics = self.metrics;
        metrics.extend(training_metrics(trained));
        ModelVersion {
            model: trained.config.model.clone(),
            version: self.version,
            created: self.created,
            artifact: trained.outputs.model.clone(),
            metrics,
            parameters: trained.outputs.parameters.clone(),
            dataset: Dataset {
                id: manifest.dataset.clone(),
                bucket: trained.config.dataset.bucket.clone(),
                prefix: trained.config.dataset.prefix.clone(),
                digest: manifest.digest.clone(),
            },
            code: code(trained, manifest),
            signature: manifest.signature(),
            decision: verdict.decision,
            reason: verdict.reason,
            compared_with: self.champion,
            origin: Origin {
                job: trained.job.clone(),
                ..self.origin
            },
        }
    }
}

/// The worker's metrics as `validation.auc`, `train.log_loss` and so on.
fn training_metrics(trained: &ModelTrained) -> impl Iterator<Item = (String, f64)> {
    let outputs = &trained.outputs;
    let splits = outputs.metrics.iter().flat_map(|(split, metrics)| {
        let named = metrics.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        named.map(move |(name, value)| (format!("{split}.{name}"), value))
    });
    let epochs = [
        ("train.epochs", outputs.epochs),
        ("train.best_epoch", outputs.best_epoch),
    ];
    let epochs = epochs
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value? as f64)));
    splits.chain(epochs)
}

/// Which code made the version: the digest of the feature code's source, this app's version, and whatever the
/// worker says of itself.
fn code(trained: &ModelTrained, manifest: &Manifest) -> BTreeMap<String, String> {
    let mut code = BTreeMap::from([
        ("features".to_owned(), manifest.code.clone()),
        ("feed-ranking".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    if let Some(worker) = &trained.outputs.code {
        code.insert("worker".to_owned(), worker.clone());
    }
    code
}

/// Whether the champion can score the rows of a training set.
pub fn comparable(champion: &Signature, manifest: &Manifest) -> bool {
    *champion == manifest.signature()
}

#[cfg(test)]
mod tests {
    use super::super::messages::ModelDecided;
    use super::*;

    fn trained() -> ModelTrained {
        let json = serde_json::json!({
            "job": "j1",
            "kind": "train.two-tower",
            "config": {"model": "ranker", "dataset": {"bucket": "data", "prefix": "features/d/"}, "seed": 42},
            "outputs": {
                "model": {"bucket": "models", "key": "ranker/ab/model.onnx", "sha256": "cd", "size": 5},
                "metrics": {"validation": {"auc": 0.8, "log_loss": 0.5}, "train": {"log_loss": 0.4}},
                "epochs": 7, "best_epoch": 5, "parameters": {"seed": 42},
                "dataset_digest": "ef", "seconds": 3.5
            }
        });
        serde_json::from_value(json).unwrap()
    }

    fn record(auc: f64, champion: Option<f64>) -> ModelVersion {
        let manifest = Manifest {
            digest: "ef".into(),
            dataset: "d".into(),
            ..Manifest::default()
        };
        Registration {
            version: 2,
            created: 9,
            trained: &trained(),
            manifest: &manifest,
            metrics: BTreeMap::from([("auc".into(), auc)]),
            champion: champion.map(|auc| Comparison {
                version: 1,
                auc,
                same_split: true,
            }),
            origin: Origin::default(),
        }
        .record()
    }

    #[test]
    fn the_record_holds_what_the_worker_and_the_test_split_say() {
        let version = record(0.85, None);
        assert_eq!(version.metrics["auc"], 0.85);
        assert_eq!(version.metrics["validation.auc"], 0.8);
        assert_eq!(version.metrics["train.best_epoch"], 5.0);
        assert!(!version.metrics.keys().any(|name| name.contains("seconds")));
        assert_eq!(
            (version.dataset.digest.as_str(), version.origin.job.as_str()),
            ("ef", "j1")
        );
        assert_eq!(version.parameters["seed"], 42);
    }

    #[test]
    fn only_a_promotion_is_told_as_one() {
        let kind = |auc, champion| ModelDecided::of(&record(auc, champion)).kind();
        assert_eq!(kind(0.85, None), "ModelPromoted");
        assert_eq!(kind(0.85, Some(0.83)), "ModelPromoted");
        assert_eq!(kind(0.835, Some(0.83)), "ModelRejected");
        assert_eq!(kind(0.80, Some(0.83)), "ModelRejected");
    }
}
