//! Versions of functions as they are kept: immutable, numbered, up to a bound.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::apps::{AppRecord, LIVE};
use super::deployment::{COMPONENTS, DeployError};
use super::fleet::Fleet;
use crate::deploy::{Deployable, gathered};
use crate::manifest::{Function, Manifest};
use crate::store::{Condition, Order, Publication, StateWrite, Store, StoreError, Unit};

/// The table of versions.
const VERSIONS: &str = "$versions";
/// Versions of one function that are kept: the latest, and with them those that an alias points at, that the last
/// change replaced, or that have events left.
pub const KEPT: usize = 10;
/// Versions of one function at most, those included that have events left.
pub(super) const MOST: usize = 2 * KEPT;

/// A version as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct VersionRecord {
    pub(super) app: String,
    pub(super) function: String,
    pub(super) number: u64,
    /// The digest of the component.
    pub(super) digest: String,
    /// When it was deployed, in milliseconds since the Unix epoch.
    pub(super) at: u64,
    /// Where the manifest was.
    pub(super) file: String,
    /// The manifest that it was deployed with, as far as it concerns this function.
    pub(super) manifest: String,
}

/// What the versions of one deployment have in common, and the manifest of each.
pub(super) struct Template {
    pub(super) app: String,
    pub(super) at: u64,
    pub(super) file: String,
    pub(super) texts: BTreeMap<String, String>,
}

impl Template {
    /// A function's new version.
    fn version(&self, deployable: &Deployable, number: u64) -> VersionRecord {
        let function = deployable.spec.name.clone();
        VersionRecord {
            app: self.app.clone(),
            manifest: self.texts.get(&function).cloned().unwrap_or_default(),
            function,
            number,
            digest: deployable.component.code.digest.clone(),
            at: self.at,
            file: self.file.clone(),
        }
    }
}

/// A version, for people.
#[derive(Debug, Clone, Serialize)]
pub struct VersionInfo {
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// Its number: 1, 2, ... for each function.
    pub version: u64,
    /// The digest of its component.
    pub digest: String,
    /// When it was deployed, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The aliases that point at it, with the share of each in hundredths.
    pub aliases: BTreeMap<String, u64>,
    /// Where it is.
    pub state: VersionState,
}

/// Where a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Takes events or requests.
    Live,
    /// Takes none, and handles those that it has taken.
    Draining,
    /// Kept, not loaded.
    Kept,
}

impl VersionRecord {
    fn key(&self) -> String {
        format!("{}/{:010}", self.function, self.number)
    }

    fn write(&self) -> Result<StateWrite, StoreError> {
        let value = serde_json::to_vec(self).map_err(StoreError::new)?;
        Ok(StateWrite {
            table: VERSIONS.into(),
            key: self.key(),
            value: Some(value.into()),
            condition: Condition::Absent,
        })
    }

    fn removal(&self) -> StateWrite {
        StateWrite {
            table: VERSIONS.into(),
            key: self.key(),
            value: None,
            condition: Condition::None,
        }
    }

    /// The manifest, with this function alone.
    pub(super) fn alone(&self) -> Result<Manifest, DeployError> {
        let mut manifest = Manifest::parse(&self.manifest, &self.file)?;
        manifest
            .functions
            .retain(|function| function.name == self.function);
        for function in &mut manifest.functions {
            function.version = self.number;
        }
        Ok(manifest)
    }

    /// The function's table in that manifest, and the tenant that it names. A Spin app's has none.
    pub(super) fn words(&self) -> Option<(Table, Option<String>)> {
        let root: Table = self.manifest.parse().ok()?;
        let functions = root
            .get("function")?
            .as_array()?
            .iter()
            .filter_map(Value::as_table);
        let mut named = functions
            .filter(|words| words.get("name").and_then(Value::as_str) == Some(self.function.as_str()));
        let tenant = root
            .get("app")
            .and_then(|app| app.get("tenant"))
            .and_then(Value::as_str);
        Some((named.next()?.clone(), tenant.map(str::to_owned)))
    }

    /// Whether a function that is deployed is this version.
    fn is(&self, app: &str, deployable: &Deployable) -> bool {
        let same = |manifest: Manifest| {
            let found = manifest.functions.first();
            found.is_some_and(|found| {
                Function {
                    version: deployable.spec.version,
                    ..gathered(found, deployable.component.program.kind())
                } == *deployable.spec
            })
        };
        self.app == app && self.digest == deployable.component.code.digest && self.alone().is_ok_and(same)
    }

    pub(super) fn info(&self, record: &AppRecord, fleet: &Fleet) -> VersionInfo {
        let aliases = record.aliases_of(&self.function, self.number);
        let state = if aliases.contains_key(LIVE) {
            VersionState::Live
        } else if fleet.running(&self.function, self.number).is_some() {
            VersionState::Draining
        } else {
            VersionState::Kept
        };
        VersionInfo {
            app: self.app.clone(),
            function: self.function.clone(),
            version: self.number,
            digest: self.digest.clone(),
            at: self.at,
            aliases,
            state,
        }
    }
}

/// Every version that is kept, by function, the oldest first.
#[derive(Default)]
pub(super) struct Versions(BTreeMap<String, Vec<VersionRecord>>);

impl Versions {
    /// Those of one function, or of all.
    pub(super) async fn read(store: &dyn Store, function: Option<&str>) -> Result<Self, StoreError> {
        let prefix = function.map_or(String::new(), |function| format!("{function}/"));
        let (mut versions, mut after) = (Self::default(), None);
        loop {
            let page = store
                .query(VERSIONS, &prefix, after.as_deref(), 200, Order::Ascending)
                .await?;
            for (_, row) in page.entries {
                let record: VersionRecord = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
                versions
                    .0
                    .entry(record.function.clone())
                    .or_default()
                    .push(record);
            }
            after = page.next;
            if after.is_none() {
                return Ok(versions);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &VersionRecord> {
        self.0.values().flatten()
    }

    /// Those of one function.
    pub(super) fn of(&self, function: &str) -> &[VersionRecord] {
        self.0.get(function).map(Vec::as_slice).unwrap_or_default()
    }

    /// Gives a function that is deployed the number of the version that it is, which may be a new one; then the
    /// unit keeps it.
    pub(super) fn number(
        &mut self,
        deployable: &mut Deployable,
        template: &Template,
        unit: &mut Unit,
    ) -> Result<u64, StoreError> {
        let kept = self.0.entry(deployable.spec.name.clone()).or_default();
        let known = kept
            .iter()
            .rev()
            .find(|version| version.is(&template.app, deployable));
        let number = match known {
            Some(known) => known.number,
            None => {
                let number = kept.last().map_or(1, |latest| latest.number + 1);
                let record = template.version(deployable, number);
                unit.state.push(record.write()?);
                kept.push(record);
                number
            }
        };
        std::sync::Arc::make_mut(&mut deployable.spec).version = number;
        Ok(number)
    }

    /// Removes the oldest versions of a function beyond the bound, where nothing needs them any more, in the unit.
    pub(super) fn prune(
        &mut self,
        function: &str,
        record: &AppRecord,
        fleet: &Fleet,
        unit: &mut Unit,
    ) -> Result<(), DeployError> {
        let kept = self.0.entry(function.to_owned()).or_default();
        let mut excess = kept.len().saturating_sub(KEPT);
        kept.retain(|version| {
            let number = version.number;
            let goes = excess > 0
                && record.deployed(function) != Some(number)
                && !record.needs(function, number)
                && fleet.running(function, number).is_none();
            if goes {
                excess -= 1;
                unit.state.push(version.removal());
            }
            !goes
        });
        if kept.len() > MOST {
            return Err(DeployError::Versions {
                function: function.to_owned(),
                kept: kept.len(),
            });
        }
        Ok(())
    }

    /// Removes these versions, in the unit.
    pub(super) fn remove(&mut self, these: &BTreeSet<(String, u64)>, unit: &mut Unit) {
        for kept in self.0.values_mut() {
            kept.retain(|version| {
                let goes = these.contains(&(version.function.clone(), version.number));
                unit.state.extend(goes.then(|| version.removal()));
                !goes
            });
        }
    }

    /// Removes the components, in the unit, that none of these versions has any more; which they are.
    pub(super) fn sweep(&self, mut before: BTreeSet<String>, unit: &mut Unit) -> BTreeSet<String> {
        let needed = self.digests();
        before.retain(|digest| !needed.contains(digest));
        let removed = before.iter().map(|digest| Publication {
            bucket: COMPONENTS.into(),
            key: digest.clone(),
            staged: None,
            content_type: None,
            user: BTreeMap::new(),
            condition: Condition::None,
        });
        unit.objects.extend(removed);
        before
    }

    /// The components of all of them.
    pub(super) fn digests(&self) -> BTreeSet<String> {
        self.iter().map(|version| version.digest.clone()).collect()
    }
}
