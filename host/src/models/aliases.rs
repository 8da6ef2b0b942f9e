//! Aliases of models: the versions that answer for one, with their shares, and the one that is asked without answering.

use tidegate_ml::reference::{ModelRef, Target};
use tidegate_ml::registry::{self, Alias, CHAMPION, PREVIOUS};
use tidegate_runtime::store::{CommitError, Condition, StateWrite, Store, StoreError, Unit};
use tidegate_runtime::trigger::Split;

use super::{decoded, rollout, write};

/// Why who answers was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such model, version or alias.
    #[error("{0}")]
    Missing(String),
    /// It cannot be as it was to be.
    #[error("{0}")]
    Refused(String),
    /// The store did not answer, or somebody else came first.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Commit(error.into())
    }
}

/// An alias as it stands, and what has to hold for that to be changed.
pub(super) async fn read(
    store: &dyn Store,
    model: &str,
    alias: &str,
) -> Result<(Option<Alias>, Condition), StoreError> {
    let row = store
        .get(registry::TABLE, &registry::alias_key(model, alias))
        .await?;
    match row {
        None => Ok((None, Condition::Absent)),
        Some(row) => Ok((Some(decoded(&row.value)?), Condition::Version(row.version))),
    }
}

/// The same of the champion, which there has to be.
pub(super) async fn champion(store: &dyn Store, model: &str) -> Result<(Alias, Condition), ChangeError> {
    let (alias, condition) = read(store, model, CHAMPION).await?;
    let none = || ChangeError::Missing(format!("model `{model}` has no alias `{CHAMPION}` yet"));
    Ok((alias.ok_or_else(none)?, condition))
}

/// Refuses a version that is not registered.
pub(super) async fn registered(store: &dyn Store, model: &str, version: u64) -> Result<(), ChangeError> {
    let key = registry::version_key(model, version);
    match store.get(registry::TABLE, &key).await? {
        Some(_) => Ok(()),
        None => Err(ChangeError::Missing(format!(
            "model `{model}` has no version {version}"
        ))),
    }
}

/// Writes an alias.
pub(super) fn written(model: &str, name: &str, alias: &Alias, condition: Condition) -> StateWrite {
    write(
        registry::TABLE,
        registry::alias_key(model, name),
        alias,
        condition,
    )
}

/// Points an alias at one version of a model, or at two that share its requests.
pub async fn set(
    store: &dyn Store,
    model: &str,
    name: &str,
    split: &Split,
    now: u64,
) -> Result<(), ChangeError> {
    let reference = format!("{model}@{name}").parse();
    if !matches!(
        reference,
        Ok(ModelRef {
            target: Target::Alias(_),
            ..
        })
    ) {
        return Err(ChangeError::Refused(format!(
            "`{model}@{name}` is no model with an alias, which is a name and no number"
        )));
    }
    for (version, _) in split.shares() {
        registered(store, model, version).await?;
    }
    if name == CHAMPION {
        rollout::refuse_running(store, model).await?;
    }
    let (before, condition) = read(store, model, name).await?;
    let alias = Alias {
        versions: split.shares().filter(|(_, share)| *share < 100).collect(),
        shadow: before
            .as_ref()
            .and_then(|before| before.shadow)
            .filter(|shadow| !split.has(*shadow)),
        ..Alias::to(split.heaviest(), now)
    };
    let mut unit = Unit::default();
    unit.state.push(written(model, name, &alias, condition));
    let replaced = before.filter(|before| name == CHAMPION && before.version != alias.version);
    if let Some(before) = replaced {
        let previous = Alias::to(before.version, now);
        unit.state
            .push(written(model, PREVIOUS, &previous, Condition::None));
    }
    Ok(store.commit(unit).await?)
}

/// Has a version be asked what the champion answers, or none any more. It never answers itself.
pub async fn set_shadow(store: &dyn Store, model: &str, version: Option<u64>) -> Result<(), ChangeError> {
    let (mut alias, condition) = champion(store, model).await?;
    if let Some(version) = version {
        registered(store, model, version).await?;
        if version == alias.version || alias.versions.contains_key(&version) {
            return Err(ChangeError::Refused(format!(
                "version {version} of model `{model}` answers as `{CHAMPION}`, a shadow is another one"
            )));
        }
    }
    alias.shadow = version;
    let mut unit = Unit::default();
    unit.state.push(written(model, CHAMPION, &alias, condition));
    Ok(store.commit(unit).await?)
}
