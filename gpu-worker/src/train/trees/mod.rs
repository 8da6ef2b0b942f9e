//! The job kinds `train.gradient-boosting` and `train.random-forest`: trees over tabular data.
//!
//! Both grow the same trees ([`grow`]) over features put into [`bins`]: boosting follows the gradient of the log loss, and
//! a forest averages trees of drawn rows, which with the label as gradient is the split by variance, Gini's.
//!
//! The growing is ours, as no crate keeps what `docs/training.md` promises: `forust-ml` 0.8 bounds leaves by curvature and not by
//! rows, and draws features for a tree and not for a split; `smartcore` 0.7 grows a whole ensemble in one call and shows no
//! nodes, so that there is nothing to checkpoint or to export; `linfa-trees` and `linfa-ensemble` 0.8 have classes for leaves
//! and no gradients, sort where we have bins, and draw features for a tree; `perpetual` 3.0 (not released yet) grows to a budget
//! of its own, without a learning rate, and has no forest.

pub mod bins;
pub mod config;
pub mod ensemble;
pub mod grow;

use serde_json::Value;

use super::epochs::{self, Plan};
use super::{fits, written};
use crate::jobs::session::{JobError, Session};
use config::TreesConfig;
use ensemble::Ensemble;

/// The kind that boosts.
pub const BOOSTING: &str = "train.gradient-boosting";
/// The kind that averages.
pub const FOREST: &str = "train.random-forest";

/// Runs a job of one of the two kinds to its outputs.
pub fn run(kind: &str, config: &Value, session: &dyn Session) -> Result<Value, JobError> {
    let config =
        TreesConfig::parse(kind, config).map_err(|mistakes| JobError::Invalid(mistakes.to_string()))?;
    let [train, validation] = config.source.read(session)?;
    fits(
        train.features.len() as u64,
        "the bins of `train.parquet`",
        "fewer rows or fewer `features`",
    )?;
    let mut ensemble = Ensemble::new(config.clone(), train, validation);
    let mut state = ensemble.resume(session)?;
    let plan = Plan {
        max_epochs: config.trees,
        patience: config.patience,
        // One step is one tree, of all rows.
        batch_size: usize::MAX,
        seed: config.seed,
        pace: epochs::pace(),
        unit: "tree",
    };
    let measured = epochs::train(&mut ensemble, &mut state, &plan, session)?;
    let model = written(session, &config.source.output, ensemble.exported().to_onnx())?;
    Ok(measured.add_to(config.source.outputs(kind, model, config.parameters())))
}

#[cfg(test)]
mod tests;
