//! The end of a search: the best model becomes a version, and one event tells of all trials.

use std::collections::BTreeMap;

use model_registry::Registry;
use serde::Serialize;
use serde_json::Value;
use tidegate_ml::promotion::Decision;
use tidegate_ml::registry::{Dataset, ModelVersion, Origin, Signature, aliases};
use tidegate_sdk::prelude::*;

use crate::request::{MODELS, Search};
use crate::rung::{trials, winner};
use crate::trial::Trial;

/// `SearchEnded`.
#[derive(Debug, Serialize)]
struct SearchEnded<'a> {
    search: &'a str,
    model: &'a str,
    kind: &'a str,
    metric: &'a str,
    /// The best trial of the highest rung; none where no trial left a model.
    best: Option<&'a Trial>,
    /// The version that its model was registered as.
    version: Option<u64>,
    /// Every trial of every rung.
    trials: &'a [Trial],
}

/// Registers the winner's model, writes the report, and tells.
pub(crate) async fn end(event: &Event, id: &str, search: &Search) -> Result<(), Failure> {
    let (mut all, mut best) = (Vec::new(), None);
    for rung in 0..search.rungs {
        let trials = trials(id, rung).await?;
        best = winner(search, &trials).cloned().or(best);
        all.extend(trials);
    }
    let version = match &best {
        Some(best) => Some(register(event, search, best).await?),
        None => None,
    };
    log::info!(
        "the search has ended after {} trials; version {version:?}",
        all.len()
    );
    let ended = SearchEnded {
        search: id,
        model: &search.model,
        kind: &search.kind,
        metric: &search.metric,
        best: best.as_ref(),
        version,
        trials: &all,
    };
    let report = serde_json::to_vec_pretty(&ended)?;
    objects::put(MODELS, &search.report(id), Some("application/json"), &report).await?;
    events::emit_about("SearchEnded", &search.model, &ended)?;
    Ok(())
}

/// Registers the model of a trial; its number.
async fn register(event: &Event, search: &Search, best: &Trial) -> Result<u64, Failure> {
    let registry = Registry::open(&search.model).await?;
    let version = version(event, search, best, &registry)?;
    let moved = aliases(version.decision, version.version, registry.champion_version());
    registry.register(&version, &moved, event.time)?;
    Ok(version.version)
}

/// The record of a trial's model. What was chosen for its score on validation data is no proof on other data: it takes the
/// champion's place only where there is none.
fn version(
    event: &Event,
    search: &Search,
    best: &Trial,
    registry: &Registry<'_>,
) -> Result<ModelVersion, Failure> {
    let (decision, reason) = match registry.champion_version() {
        None => (Decision::Promote, "there is no champion to compare with"),
        Some(_) => (Decision::Candidate, "a search compares its own trials only"),
    };
    let artifact = best.model.clone().or_reject_with("the best trial has no model")?;
    Ok(ModelVersion {
        model: search.model.clone(),
        version: registry.next(),
        created: event.time,
        artifact,
        metrics: best.metrics.clone(),
        parameters: best.used.clone(),
        dataset: dataset(search),
        code: BTreeMap::from([("search".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        signature: Signature::default(),
        decision,
        reason: reason.to_owned(),
        compared_with: None,
        origin: Origin {
            event: event.id.clone(),
            trace: event.traceparent.split('-').nth(1).unwrap_or_default().to_owned(),
            job: best.job.clone(),
        },
    })
}

fn dataset(search: &Search) -> Dataset {
    let set = search.config.get("dataset");
    let text = |name: &str| {
        set.and_then(|set| set.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Dataset {
        bucket: text("bucket"),
        prefix: text("prefix"),
        ..Dataset::default()
    }
}
