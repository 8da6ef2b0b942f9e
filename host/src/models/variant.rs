//! Variants of registered versions, which jobs make: an INT8 one, for example. Each is a version of its own that nobody gets who
//! does not ask for it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tidegate_ml::promotion::Decision;
use tidegate_ml::reference::{ModelRef, Target};
use tidegate_ml::registry::{self, CANDIDATE, CHAMPION, ModelVersion, Origin, PREVIOUS};
use tidegate_runtime::store::{Order, Store, StoreError};

use super::{RegisterError, Registry, decoded, entered, examined};

/// Aliases that are the rule of promotion's, and nobody's to give.
const RESERVED: [&str; 3] = [CHAMPION, PREVIOUS, CANDIDATE];
/// Versions among which the one of a job is looked for: the latest.
const LATEST: usize = 100;

/// A variant, as the job that made it offers it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The model's name.
    pub name: String,
    /// The version that it is a variant of.
    pub of: String,
    /// The bucket of its file.
    pub bucket: String,
    /// The key of its file.
    pub key: String,
    /// The alias that it gets.
    pub alias: String,
    /// What was measured of it.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// How it was made.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// Registers a variant as the next version of its model, once for a job: who asks again gets the same. It takes nobody's
/// place, whatever its metrics are.
pub async fn register_variant(
    store: &dyn Store,
    variant: Variant,
    job: &str,
    now: u64,
) -> Result<ModelVersion, RegisterError> {
    check_alias(&variant)?;
    if let Some(known) = made_by(store, &variant.name, job).await? {
        return Ok(known);
    }
    let base = base(store, &variant).await?;
    let (artifact, _) = examined(store, &variant.bucket, &variant.key).await?;
    let make = |registry: &Registry| {
        let version = ModelVersion {
            version: registry.next,
            created: now,
            artifact: artifact.clone(),
            metrics: variant.metrics.clone(),
            parameters: variant.parameters.clone(),
            decision: Decision::Candidate,
            reason: format!("it is a variant of version {}", base.version),
            compared_with: None,
            origin: Origin {
                job: job.to_owned(),
                ..Origin::default()
            },
            ..base.clone()
        };
        (version, BTreeMap::from([(variant.alias.clone(), registry.next)]))
    };
    entered(store, &variant.name, make, now).await
}

fn check_alias(variant: &Variant) -> Result<(), RegisterError> {
    let alias = &variant.alias;
    let reference: Result<ModelRef, _> = format!("{}@{alias}", variant.name).parse();
    let reference = reference.map_err(|error| RegisterError::Refused(error.to_string()))?;
    if matches!(reference.target, Target::Alias(_)) && !RESERVED.contains(&alias.as_str()) {
        return Ok(());
    }
    Err(RegisterError::Refused(format!(
        "`alias` is `{alias}`, allowed are names but for `{}`",
        RESERVED.join("`, `")
    )))
}

/// The version that it is a variant of.
async fn base(store: &dyn Store, variant: &Variant) -> Result<ModelVersion, RegisterError> {
    let (name, of) = (&variant.name, &variant.of);
    let missing = || RegisterError::Refused(format!("`of` is `{of}`, which is no version of model `{name}`"));
    let version: u64 = of.parse().map_err(|_| missing())?;
    let row = store
        .get(registry::TABLE, &registry::version_key(name, version))
        .await?;
    Ok(decoded(&row.ok_or_else(missing)?.value)?)
}

/// What a job registered before.
async fn made_by(store: &dyn Store, model: &str, job: &str) -> Result<Option<ModelVersion>, StoreError> {
    let prefix = registry::versions_prefix(model);
    let page = store.query(registry::TABLE, &prefix, None, LATEST, Order::Descending);
    let page = page.await?;
    let versions = page.entries.iter().map(|(_, row)| decoded(&row.value));
    let versions: Vec<ModelVersion> = versions.collect::<Result<_, _>>()?;
    Ok(versions.into_iter().find(|version| version.origin.job == job))
}
