//! Models that somebody brings along: the file is looked at before it is registered, by the rules of every other model
//! ([`register`]). Which versions answer for an alias ([`aliases`]), and how one takes another's place ([`rollout`]).

pub mod aliases;
mod onnx;
pub mod rollout;
mod variant;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tidegate_ml::promotion::{Decision, Verdict, decide};
use tidegate_ml::reference::ModelRef;
use tidegate_ml::registry::{
    self, Alias, Artifact, CHAMPION, Comparison, Dataset, ModelVersion, Next, Origin, Signature,
};
use tidegate_runtime::store::{CommitError, Condition, ObjectReader, StateWrite, Store, StoreError, Unit};

use crate::api::objects::hex;
pub use variant::{Variant, register_variant};

/// Bytes of a model's file at most: it is read as a whole to be looked at.
const MOST: u64 = 1 << 30;
/// Bytes that are read at one time.
const PIECE: usize = 1 << 20;
/// Tries beside others who register versions of one model.
const TRIES: usize = 5;

/// A model as it is offered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offered {
    /// The model's name.
    pub name: String,
    /// The bucket of its file.
    pub bucket: String,
    /// The key of its file.
    pub key: String,
    /// What is known of it; `auc` decides whether it takes the champion's place.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// How it was made.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// An alias that it gets whatever its metrics are.
    pub alias: Option<String>,
}

/// Why a model was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// What was offered cannot be a model here; all that is wrong with it.
    #[error("{0}")]
    Refused(String),
    /// There is no such file.
    #[error("there is no object `{0}/{1}`")]
    Missing(String, String),
    /// The file is too large to be looked at.
    #[error("the model has {0} bytes, allowed are {MOST}")]
    TooLarge(u64),
    /// The store did not answer, or others came first again and again.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for RegisterError {
    fn from(error: StoreError) -> Self {
        Self::Commit(error.into())
    }
}

/// Looks at a model's file and registers it as the next version of its name.
pub async fn register(store: &dyn Store, offered: Offered, now: u64) -> Result<ModelVersion, RegisterError> {
    check_names(&offered)?;
    let (artifact, signature) = examined(store, &offered.bucket, &offered.key).await?;
    let make = |registry: &Registry| {
        let version = registry.version_of(&offered, artifact.clone(), signature.clone(), now);
        let champion = registry.champion.as_ref().map(|champion| champion.version);
        let decided = registry::aliases(version.decision, version.version, champion);
        let mut moved: BTreeMap<String, u64> = decided
            .into_iter()
            .map(|(alias, target)| (alias.to_owned(), target))
            .collect();
        moved.extend(offered.alias.iter().map(|alias| (alias.clone(), version.version)));
        (version, moved)
    };
    entered(store, &offered.name, make, now).await
}

/// A model's file as the registry keeps it, if it can be served.
async fn examined(
    store: &dyn Store,
    bucket: &str,
    key: &str,
) -> Result<(Artifact, Signature), RegisterError> {
    let file = read(store, bucket, key).await?;
    let signature = onnx::signature(&file).map_err(|mistakes| {
        let mistakes = mistakes.join("; ");
        RegisterError::Refused(format!("`{bucket}/{key}` cannot be served: {mistakes}"))
    })?;
    let artifact = Artifact {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        sha256: hex(&Sha256::digest(&file)),
        size: file.len() as u64,
    };
    Ok((artifact, signature))
}

/// Enters the version that `make` makes of the registry, with the aliases that then point elsewhere; anew where another came
/// first.
async fn entered(
    store: &dyn Store,
    model: &str,
    make: impl Fn(&Registry) -> (ModelVersion, BTreeMap<String, u64>),
    now: u64,
) -> Result<ModelVersion, RegisterError> {
    let mut tries = 1;
    loop {
        let registry = Registry::read(store, model).await?;
        let (version, moved) = make(&registry);
        match store.commit(registry.unit(&version, &moved, now)).await {
            Ok(()) => return Ok(version),
            Err(CommitError::Conflict { .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn check_names(offered: &Offered) -> Result<(), RegisterError> {
    let refused = |error: tidegate_ml::reference::ReferenceError| RegisterError::Refused(error.to_string());
    let mut names: ModelRef = offered.name.parse().map_err(refused)?;
    if let Some(alias) = &offered.alias {
        names = format!("{}@{alias}", offered.name).parse().map_err(refused)?;
        if !matches!(names.target, tidegate_ml::reference::Target::Alias(_)) {
            return Err(RegisterError::Refused(format!(
                "`alias` is `{alias}`, which is a version or a file; expected a name"
            )));
        }
    }
    if names.name != offered.name {
        return Err(RegisterError::Refused(format!(
            "`name` is `{}`, expected a model's name without `@`",
            offered.name
        )));
    }
    match offered.metrics.iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((name, value)) => Err(RegisterError::Refused(format!("metric `{name}` is {value}"))),
    }
}

async fn read(store: &dyn Store, bucket: &str, key: &str) -> Result<Bytes, RegisterError> {
    let object = store.open(bucket, key).await?;
    let object = object.ok_or_else(|| RegisterError::Missing(bucket.into(), key.into()))?;
    let size = object.meta().size;
    if size > MOST {
        return Err(RegisterError::TooLarge(size));
    }
    Ok(whole(object.as_ref(), size).await?)
}

async fn whole(object: &dyn ObjectReader, size: u64) -> Result<Bytes, StoreError> {
    let mut file = BytesMut::new();
    while (file.len() as u64) < size {
        let piece = object.read_at(file.len() as u64, PIECE).await?;
        if piece.is_empty() {
            return Err(StoreError(format!(
                "a file ends after {} of {size} bytes",
                file.len()
            )));
        }
        file.extend_from_slice(&piece);
    }
    Ok(file.freeze())
}

/// What the registry says of a model, with the versions of the rows.
struct Registry {
    next: u64,
    counter: Condition,
    champion: Option<ModelVersion>,
    alias: Condition,
}

impl Registry {
    async fn read(store: &dyn Store, model: &str) -> Result<Self, RegisterError> {
        let keys = [registry::next_key(model), registry::alias_key(model, CHAMPION)];
        let mut rows = store
            .get_many(registry::TABLE, &keys)
            .await?
            .into_iter()
            .map(|row| {
                let condition = row
                    .as_ref()
                    .map_or(Condition::Absent, |row| Condition::Version(row.version));
                (row.map(|row| row.value), condition)
            });
        let (next, counter) = rows.next().unwrap_or((None, Condition::Absent));
        let (champion, alias) = rows.next().unwrap_or((None, Condition::Absent));
        let next: Option<Next> = next.as_deref().map(decoded).transpose()?;
        let champion: Option<Alias> = champion.as_deref().map(decoded).transpose()?;
        let champion = match champion {
            None => None,
            Some(alias) => {
                let key = registry::version_key(model, alias.version);
                let row = store.get(registry::TABLE, &key).await?;
                row.map(|row| decoded(&row.value)).transpose()?
            }
        };
        Ok(Self {
            next: next.map_or(1, |next| next.version),
            counter,
            champion,
            alias,
        })
    }

    fn version_of(
        &self,
        offered: &Offered,
        artifact: Artifact,
        signature: Signature,
        now: u64,
    ) -> ModelVersion {
        let champion = self.champion.as_ref();
        let compared_with = champion.and_then(|champion| {
            Some(Comparison {
                version: champion.version,
                auc: *champion.metrics.get("auc")?,
                same_split: false,
            })
        });
        let Verdict { decision, reason } = verdict(offered, champion.is_some(), compared_with.as_ref());
        ModelVersion {
            model: offered.name.clone(),
            version: self.next,
            created: now,
            artifact,
            metrics: offered.metrics.clone(),
            parameters: offered.parameters.clone(),
            dataset: Dataset::default(),
            code: BTreeMap::new(),
            signature,
            decision,
            reason,
            compared_with,
            origin: Origin::default(),
        }
    }

    /// The record, the counter and the aliases; another who registers in between makes it a conflict.
    fn unit(&self, version: &ModelVersion, moved: &BTreeMap<String, u64>, now: u64) -> Unit {
        let model = &version.model;
        let counter = Next {
            version: version.version + 1,
        };
        let mut unit = Unit::default();
        unit.state.push(write(
            registry::TABLE,
            registry::version_key(model, version.version),
            version,
            Condition::Absent,
        ));
        unit.state.push(write(
            registry::TABLE,
            registry::next_key(model),
            &counter,
            self.counter,
        ));
        for (name, target) in moved {
            let alias = Alias::to(*target, now);
            let condition = if name == CHAMPION {
                self.alias
            } else {
                Condition::None
            };
            unit.state.push(aliases::written(model, name, &alias, condition));
        }
        unit
    }
}

/// What becomes of a version: an alias that it was given is somebody's decision, its AUC is compared as ever, and
/// without one it takes nobody's place.
fn verdict(offered: &Offered, has_champion: bool, champion: Option<&Comparison>) -> Verdict {
    let said = |decision, reason: &str| Verdict {
        decision,
        reason: reason.to_owned(),
    };
    match (offered.alias.as_deref(), offered.metrics.get("auc")) {
        (Some(CHAMPION), _) => said(Decision::Promote, "it was registered as the champion"),
        (_, Some(auc)) => decide(*auc, champion.map(|champion| champion.auc)),
        (_, None) if !has_champion => said(Decision::Promote, "there is no champion to compare with"),
        (_, None) => said(Decision::Candidate, "it was registered without an auc to compare"),
    }
}

/// Milliseconds since the Unix epoch.
pub fn now() -> u64 {
    chrono::Utc::now().timestamp_millis().max(0) as u64
}

fn write(table: &str, key: String, value: &impl Serialize, condition: Condition) -> StateWrite {
    StateWrite {
        table: table.into(),
        key,
        value: Some(serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()),
        condition,
    }
}

fn decoded<T: serde::de::DeserializeOwned>(row: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(row).map_err(|error| StoreError(format!("the registry is unreadable: {error}")))
}

#[cfg(test)]
mod tests;
