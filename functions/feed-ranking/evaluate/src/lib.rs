//! `evaluate`: a trained model is scored on the test split, compared with the champion, and registered.

mod scoring;

use feed_ranking::evaluate::messages::{ModelDecided, ModelTrained};
use feed_ranking::evaluate::registration::{Registration, comparable};
use feed_ranking::evaluate::scoring::{Scores, ScoringError};
use feed_ranking::features::training::{MANIFEST, Manifest};
use model_registry::Registry;
use scoring::Split;
use tidegate_ml::reference::ModelRef;
use tidegate_ml::registry::{Comparison, ModelVersion, Origin, aliases};
use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// Bytes of `dataset.json`, at most.
const MANIFEST_BYTES: u64 = 1 << 20;

async fn handle(event: Event) -> Result<(), Failure> {
    let trained: ModelTrained = event.json()?;
    let dataset = &trained.config.dataset;
    let manifest_key = format!("{}{MANIFEST}", dataset.prefix);
    let manifest: Manifest = objects::read_json(&dataset.bucket, &manifest_key, MANIFEST_BYTES).await?;
    let split = Split::new(dataset, &manifest);

    let (model, artifact) = (&trained.config.model, &trained.outputs.model);
    let reference = ModelRef::object(model, &artifact.bucket, &artifact.key);
    let metrics = split.score(&reference).await?.metrics().or_reject()?;

    let registry = Registry::open(model).await?;
    let champion = match &registry.champion {
        Some(champion) => Some(compare(champion, &split, &manifest).await?),
        None => None,
    };
    let version = Registration {
        version: registry.next(),
        created: event.time,
        trained: &trained,
        manifest: &manifest,
        metrics,
        champion,
        origin: origin(&event),
    }
    .record();
    let moved = aliases(version.decision, version.version, registry.champion_version());
    registry.register(&version, &moved, event.time)?;
    tell(&version)
}

/// The champion's AUC: on this test split where it can score it, else that of its registration.
async fn compare(
    champion: &ModelVersion,
    split: &Split<'_>,
    manifest: &Manifest,
) -> Result<Comparison, Failure> {
    let version = champion.version;
    if comparable(&champion.signature, manifest) {
        let artifact = &champion.artifact;
        let reference = ModelRef::object(&champion.model, &artifact.bucket, &artifact.key);
        match split
            .score(&reference)
            .await
            .and_then(|scores| scores.auc().or_reject())
        {
            Ok(auc) => {
                return Ok(Comparison {
                    version,
                    auc,
                    same_split: true,
                });
            }
            Err(Failure::Retry(retry)) => return Err(Failure::Retry(retry)),
            Err(Failure::Reject(reason)) => {
                log::warn!("version {version} cannot be scored on this test split: {reason}");
            }
        }
    }
    let recorded = champion.metrics.get("auc").copied();
    let auc = recorded.or_reject_with(&format!("version {version} is registered without an auc"))?;
    Ok(Comparison {
        version,
        auc,
        same_split: false,
    })
}

fn origin(event: &Event) -> Origin {
    let trace = event.traceparent.split('-').nth(1).unwrap_or_default();
    Origin {
        event: event.id.clone(),
        trace: trace.to_owned(),
        job: String::new(),
    }
}

fn tell(version: &ModelVersion) -> Result<(), Failure> {
    let decided = ModelDecided::of(version);
    let metric = |name: &str| version.metrics.get(name).copied().unwrap_or(f64::NAN);
    log::info!(
        "version {}: {}, {} (ndcg@10 {:.4}, log loss {:.4})",
        version.version,
        version.decision.as_str(),
        version.reason,
        metric("ndcg_at_10"),
        metric("log_loss"),
    );
    events::emit_about(decided.kind(), &version.model, &decided)?;
    Ok(())
}
