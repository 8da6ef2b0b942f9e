//! Aliases: which versions of a function take its events and requests, and the way back.

use super::Platform;
use super::apps::{AppRecord, LIVE};
use super::deployment::DeployError;
use super::fleet::Fleet;
use super::versions::{KEPT, VersionInfo, VersionRecord, Versions};
use crate::effects::Draft;
use crate::manifest::is_name;
use crate::store::{CommitError, Condition, StoreError};
use crate::trigger::Split;

/// Aliases of one function at most, `live` included.
const MOST_ALIASES: usize = 16;

/// Why an alias does not point where it was to.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// No version of the function is kept.
    #[error("no function `{name}` is deployed; deployed are {deployed}")]
    NoFunction {
        /// What was asked for.
        name: String,
        /// What there is.
        deployed: String,
    },
    /// The version was removed, or never was.
    #[error("function `{function}` has no version {version}{why}; kept are {kept}")]
    NoVersion {
        /// The function.
        function: String,
        /// What was asked for.
        version: u64,
        /// Where it is gone.
        why: String,
        /// What there is.
        kept: String,
    },
    /// The function has no such alias.
    #[error("function `{function}` has no alias `{alias}`; it has {aliases}")]
    NoAlias {
        /// The function.
        function: String,
        /// What was asked for.
        alias: String,
        /// What there is.
        aliases: String,
    },
    /// The alias cannot be what it was to be.
    #[error("{0}")]
    Refused(String),
    /// There is nothing to go back to.
    #[error("`{0}` has had no other live versions: there is nothing to go back to")]
    NothingBefore(String),
    /// The versions cannot run.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

impl From<StoreError> for AliasError {
    fn from(error: StoreError) -> Self {
        Self::Deploy(error.into())
    }
}

impl From<CommitError> for AliasError {
    fn from(error: CommitError) -> Self {
        Self::Deploy(error.into())
    }
}

impl Platform {
    /// The versions of a function, or of all, the latest last.
    pub async fn versions(&self, function: Option<&str>) -> Result<Vec<VersionInfo>, AliasError> {
        let store = self.services.store.as_ref();
        let versions = Versions::read(store, function).await?;
        if let Some(function) = function {
            self.known(function, &versions)?;
        }
        let mut infos = Vec::new();
        for version in versions.iter() {
            let (record, _) = AppRecord::read(store, &version.app).await?;
            infos.push(version.info(&record, &self.fleet()));
        }
        Ok(infos)
    }

    /// Points an alias at versions of a function; the alias `live` moves its events and requests.
    pub async fn set_alias(&self, function: &str, alias: &str, split: Split) -> Result<(), AliasError> {
        if !is_name(alias) {
            return Err(AliasError::Refused(format!(
                "found the alias `{alias}`, expected 1 to 63 lower-case letters, digits, `-` and `_`, starting with a \
                 letter"
            )));
        }
        let _one_at_a_time = self.deploying.lock().await;
        let versions = Versions::read(self.services.store.as_ref(), Some(function)).await?;
        let app = self.known(function, &versions)?.app.clone();
        for (version, _) in split.shares() {
            found(&versions, &app, function, version)?;
        }
        let (mut record, condition) = self.app(&app).await?;
        record.set(function, alias, split);
        if record.aliases(function).count() > MOST_ALIASES {
            return Err(AliasError::Refused(format!(
                "function `{function}` has {MOST_ALIASES} aliases already, more are not allowed"
            )));
        }
        self.turn(&app, &record, condition).await
    }

    /// Removes an alias other than `live`.
    pub async fn remove_alias(&self, function: &str, alias: &str) -> Result<(), AliasError> {
        if alias == LIVE {
            return Err(AliasError::Refused(format!(
                "the alias `{LIVE}` cannot be removed; deploy a manifest without the function instead"
            )));
        }
        let _one_at_a_time = self.deploying.lock().await;
        let versions = Versions::read(self.services.store.as_ref(), Some(function)).await?;
        let app = self.known(function, &versions)?.app.clone();
        let (mut record, condition) = self.app(&app).await?;
        if !record.unset(function, alias) {
            return Err(no_alias(&record, function, alias));
        }
        self.turn(&app, &record, condition).await
    }

    /// Takes the last change of the live versions back: of a function, or of an app as a whole. Where a function
    /// and an app have one name, it is the function's, unless the app is asked for.
    pub async fn roll_back(&self, name: &str, as_app: bool) -> Result<(), AliasError> {
        let _one_at_a_time = self.deploying.lock().await;
        let versions = Versions::read(self.services.store.as_ref(), None).await?;
        let function = versions.of(name).last().filter(|_| !as_app);
        let app = match function {
            Some(version) => version.app.clone(),
            None if versions.iter().any(|version| version.app == name) => name.to_owned(),
            None => return Err(no_function(name, &self.fleet())),
        };
        let (mut record, condition) = self.app(&app).await?;
        if !record.roll_back(function.map(|_| name)) {
            return Err(AliasError::NothingBefore(name.to_owned()));
        }
        self.turn(&app, &record, condition).await
    }

    async fn app(&self, app: &str) -> Result<(AppRecord, Condition), StoreError> {
        AppRecord::read(self.services.store.as_ref(), app).await
    }

    /// The latest version of a function.
    pub(super) fn known<'a>(
        &self,
        function: &str,
        versions: &'a Versions,
    ) -> Result<&'a VersionRecord, AliasError> {
        let latest = versions.of(function).last();
        latest.ok_or_else(|| no_function(function, &self.fleet()))
    }

    /// Keeps an app with other aliases, and lets them hold.
    async fn turn(&self, app: &str, record: &AppRecord, condition: Condition) -> Result<(), AliasError> {
        let versions = Versions::read(self.services.store.as_ref(), None).await?;
        let mut arrived = Vec::new();
        for (function, split) in record.live() {
            for (number, _) in split.shares() {
                let version = found(&versions, app, function, number)?;
                if self.fleet().running(function, number).is_none() {
                    arrived.push(self.load(version).await?);
                }
            }
        }
        for function in &arrived {
            self.refuse_taken(app, &function.spec)?;
        }
        let mut draft = Draft::new(&self.services);
        draft.unit.state.push(record.write(app, condition)?);
        draft.commit().await?;
        self.activate(app, record.live().clone(), arrived);
        Ok(())
    }
}

pub(super) fn found<'a>(
    versions: &'a Versions,
    app: &str,
    function: &str,
    number: u64,
) -> Result<&'a VersionRecord, AliasError> {
    let kept: Vec<_> = versions
        .of(function)
        .iter()
        .filter(|version| version.app == app)
        .collect();
    let found = kept.iter().find(|version| version.number == number);
    found.copied().ok_or_else(|| {
        let removed = number > 0 && kept.first().is_some_and(|oldest| number < oldest.number);
        let numbers: Vec<_> = kept.iter().map(|version| version.number.to_string()).collect();
        AliasError::NoVersion {
            function: function.to_owned(),
            version: number,
            why: if removed {
                format!(" any more: the latest {KEPT} are kept")
            } else {
                String::new()
            },
            kept: numbers.join(", "),
        }
    })
}

fn no_function(name: &str, fleet: &Fleet) -> AliasError {
    AliasError::NoFunction {
        name: name.to_owned(),
        deployed: fleet.names(),
    }
}

pub(super) fn no_alias(record: &AppRecord, function: &str, alias: &str) -> AliasError {
    let aliases: Vec<_> = record
        .aliases(function)
        .map(|alias| format!("`{alias}`"))
        .collect();
    AliasError::NoAlias {
        function: function.to_owned(),
        alias: alias.to_owned(),
        aliases: aliases.join(", "),
    }
}
