//! The job kind `quantise.onnx`: a variant of a registered model with INT8 weights, which is a version of its own.
//!
//! What becomes of the file is [`crate::onnx::quantised`]'s. Both models are asked about the same rows, and the variant is
//! registered only if what it says is near enough: [`comparison`].

pub mod comparison;
pub mod config;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::jobs::session::{JobError, Registered, Session, Variant};
use crate::onnx::quantised::quantise;
use crate::predict::scorer::Scorer;
use crate::train::hex;
use comparison::{Comparison, compare};
use config::QuantiseConfig;

/// The kind.
pub const KIND: &str = "quantise.onnx";

/// Runs a job to its outputs.
pub fn run(config: &Value, session: &dyn Session) -> Result<Value, JobError> {
    let config = QuantiseConfig::parse(config).map_err(|mistakes| JobError::Invalid(mistakes.to_string()))?;
    let of = pinned(&config.model, session)?;
    let (name, version) = (&of.name, &of.version);
    let file = session.read(&of.bucket, &of.key)?;
    let made = quantise(&file, config.tables)
        .map_err(|reason| JobError::Invalid(format!("model `{name}` version `{version}` {reason}")))?;
    let reference = Scorer::of(name, version, &file, 1)?;
    let variant = Scorer::of(name, "int8", &made.file, 1)?;
    let comparison = compare(&reference, &variant, &config, session)?;
    comparison.within(config.tolerance).map_err(JobError::Invalid)?;
    // Named by what it is: no later job writes another file in the place of a version's.
    let sha256 = hex(&Sha256::digest(&made.file));
    let (bucket, key) = (
        &config.output.bucket,
        config.output.key(&format!("{sha256}.onnx")),
    );
    let size = made.file.len();
    session.write(bucket, &key, made.file.into())?;
    let parameters = json!({
        "quantised": "int8", "of": version, "weights": made.weights, "tables": made.tables, "rows": comparison.rows,
    });
    let became = session.register(&Variant {
        name,
        of: version,
        bucket,
        key: &key,
        alias: &config.alias,
        metrics: metrics(&comparison),
        parameters,
    })?;
    Ok(json!({
        "kind": KIND,
        "of": of,
        "version": became,
        "alias": config.alias,
        "model": { "bucket": bucket, "key": key, "sha256": sha256, "size": size },
        "size_before": file.len(),
        "weights": made.weights,
        "tables": made.tables,
        "rows": comparison.rows,
        "metrics": metrics(&comparison),
    }))
}

/// The version that the first attempt found: later ones keep to it, whatever an alias stands for by then.
fn pinned(reference: &str, session: &dyn Session) -> Result<Registered, JobError> {
    let kept = session.load_checkpoint()?;
    if let Some(found) = kept.and_then(|content| serde_json::from_slice(&content).ok()) {
        return Ok(found);
    }
    let found = session.model(reference)?;
    session.save_checkpoint(serde_json::to_vec(&found).unwrap_or_default().into())?;
    Ok(found)
}

fn metrics(comparison: &Comparison) -> Map<String, Value> {
    let mut metrics = Map::new();
    metrics.insert("difference.largest".to_owned(), json!(comparison.largest));
    metrics.insert("difference.mean".to_owned(), json!(comparison.mean));
    if let Some([reference, variant]) = comparison.auc {
        metrics.insert("auc".to_owned(), json!(variant));
        metrics.insert("reference.auc".to_owned(), json!(reference));
    }
    metrics
}

#[cfg(test)]
mod tests;
