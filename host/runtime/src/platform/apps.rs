//! Apps as they are kept: which versions of their functions the aliases point at, now and before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::{Condition, StateWrite, Store, StoreError};
use crate::trigger::Split;

/// The table of deployed apps.
pub(super) const APPS: &str = "$apps";
/// The alias whose versions take events and requests.
pub const LIVE: &str = "live";
/// Changes of `live` that can be taken back.
const HISTORY: usize = 10;

/// By function, the versions that an alias points at.
pub(super) type Splits = BTreeMap<String, Split>;

/// By alias, the share in hundredths that a version shall have of it.
pub(super) type Shares = BTreeMap<String, u64>;

/// Where a deployment sends events and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All to the versions that it deploys.
    All,
    /// To those that differ from what was deployed last; what people have set since then stays.
    Changed,
    /// Where they went before.
    Unmoved,
}

/// An app as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct AppRecord {
    /// The versions that the last deployment named.
    #[serde(default)]
    deployed: BTreeMap<String, u64>,
    #[serde(default)]
    live: Splits,
    /// What `live` was before its last changes, the latest last.
    #[serde(default)]
    before: Vec<Splits>,
    /// The other aliases.
    #[serde(default)]
    named: BTreeMap<String, Splits>,
}

impl AppRecord {
    /// An app, and what has to hold of its row when it is written back.
    pub(super) async fn read(store: &dyn Store, app: &str) -> Result<(Self, Condition), StoreError> {
        let Some(row) = store.get(APPS, app).await? else {
            return Ok((Self::default(), Condition::Absent));
        };
        let record = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
        Ok((record, Condition::Version(row.version)))
    }

    pub(super) fn write(&self, app: &str, condition: Condition) -> Result<StateWrite, StoreError> {
        let value = serde_json::to_vec(self).map_err(StoreError::new)?;
        Ok(StateWrite {
            table: APPS.into(),
            key: app.to_owned(),
            value: Some(value.into()),
            condition,
        })
    }

    pub(super) fn live(&self) -> &Splits {
        &self.live
    }

    /// The version that the last deployment named.
    pub(super) fn deployed(&self, function: &str) -> Option<u64> {
        self.deployed.get(function).copied()
    }

    /// The versions that the last deployment named, by function.
    pub(super) fn all_deployed(&self) -> &BTreeMap<String, u64> {
        &self.deployed
    }

    /// Notes a deployment of these versions, and moves events and requests.
    pub(super) fn deploy(&mut self, versions: BTreeMap<String, u64>, traffic: Traffic) {
        if traffic != Traffic::Unmoved {
            let split = |(function, version): (&String, &u64)| {
                let stays = traffic == Traffic::Changed && self.deployed.get(function) == Some(version);
                let kept = self.live.get(function).filter(|_| stays).cloned();
                (function.clone(), kept.unwrap_or_else(|| Split::whole(*version)))
            };
            let live = versions.iter().map(split).collect();
            self.turn(live);
        }
        self.deployed = versions;
    }

    /// Notes that these versions are what is declared. The aliases of the functions in `changed` turn to them by that
    /// much, `live` as a whole where nothing is said of it; those of the others stay.
    pub(super) fn declare(&mut self, versions: BTreeMap<String, u64>, changed: &BTreeMap<String, Shares>) {
        let mut live = Splits::new();
        for (function, version) in &versions {
            let before = self.live.get(function).cloned();
            let Some(shares) = changed.get(function) else {
                live.extend(before.map(|split| (function.clone(), split)));
                continue;
            };
            let share = shares.get(LIVE).copied().unwrap_or(100);
            let turned = Split::turned(before.as_ref(), *version, share);
            live.extend(turned.map(|split| (function.clone(), split)));
            for (alias, share) in shares.iter().filter(|(alias, _)| *alias != LIVE) {
                if let Some(split) = Split::turned(self.alias(function, alias), *version, *share) {
                    self.set(function, alias, split);
                }
            }
        }
        self.turn(live);
        self.deployed = versions;
    }

    /// Points an alias of a function at versions.
    pub(super) fn set(&mut self, function: &str, alias: &str, split: Split) {
        if alias == LIVE {
            let mut live = self.live.clone();
            live.insert(function.to_owned(), split);
            return self.turn(live);
        }
        let of_alias = self.named.entry(alias.to_owned()).or_default();
        of_alias.insert(function.to_owned(), split);
    }

    /// Removes an alias other than `live`; whether there was one.
    pub(super) fn unset(&mut self, function: &str, alias: &str) -> bool {
        let of_alias = self.named.get_mut(alias);
        let found = of_alias.is_some_and(|splits| splits.remove(function).is_some());
        self.named.retain(|_, splits| !splits.is_empty());
        found
    }

    /// Takes the last change of `live` back, or the last one that concerned the function; whether there was one.
    pub(super) fn roll_back(&mut self, function: Option<&str>) -> bool {
        let Some(function) = function else {
            let before = self.before.last().cloned();
            return before.map(|live| self.turn(live)).is_some();
        };
        let present = self.live.get(function);
        let mut earlier = self.before.iter().rev().filter_map(|live| live.get(function));
        let before = earlier.find(|split| Some(*split) != present).cloned();
        before.map(|split| self.set(function, LIVE, split)).is_some()
    }

    /// The versions that an alias of a function points at.
    pub(super) fn alias(&self, function: &str, alias: &str) -> Option<&Split> {
        let of_alias = if alias == LIVE {
            Some(&self.live)
        } else {
            self.named.get(alias)
        };
        of_alias?.get(function)
    }

    /// The names of a function's aliases.
    pub(super) fn aliases(&self, function: &str) -> impl Iterator<Item = &str> {
        let named = self.named.keys().map(String::as_str);
        let all = std::iter::once(LIVE).chain(named);
        all.filter(move |alias| self.alias(function, alias).is_some())
    }

    /// The aliases that point at a version, each with the version's share.
    pub(super) fn aliases_of(&self, function: &str, version: u64) -> BTreeMap<String, u64> {
        let share = |alias: &str| {
            let mut shares = self.alias(function, alias)?.shares();
            shares.find(|(of, _)| *of == version).map(|(_, share)| share)
        };
        let aliases = self.aliases(function);
        aliases
            .filter_map(|alias| Some((alias.to_owned(), share(alias)?)))
            .collect()
    }

    /// Whether an alias points at a version, or did before the last change of `live`.
    pub(super) fn needs(&self, function: &str, version: u64) -> bool {
        let before = self.before.last().and_then(|live| live.get(function));
        before.is_some_and(|split| split.has(version)) || !self.aliases_of(function, version).is_empty()
    }

    fn turn(&mut self, live: Splits) {
        if live == self.live {
            return;
        }
        let before = std::mem::replace(&mut self.live, live);
        if !before.is_empty() {
            self.before.push(before);
        }
        let excess = self.before.len().saturating_sub(HISTORY);
        self.before.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter()
            .map(|(function, version)| ((*function).to_owned(), *version))
            .collect()
    }

    fn live(record: &AppRecord) -> String {
        let shown = record
            .live
            .iter()
            .map(|(function, split)| format!("{function}:{split}"));
        shown.collect::<Vec<_>>().join(" ")
    }

    fn deployed(all: &[&[(&str, u64)]]) -> AppRecord {
        let mut record = AppRecord::default();
        for of in all {
            record.deploy(versions(of), Traffic::All);
        }
        record
    }

    #[test]
    fn a_deployment_moves_traffic_as_it_is_told() {
        let mut record = deployed(&[&[("f", 1), ("g", 1)]]);
        record.deploy(versions(&[("f", 2), ("g", 1)]), Traffic::Unmoved);
        assert_eq!(live(&record), "f:1=100 g:1=100");
        record.set("g", LIVE, Split::whole(7));
        record.deploy(versions(&[("f", 2), ("g", 1)]), Traffic::Changed);
        assert_eq!(live(&record), "f:1=100 g:7=100");
        record.deploy(versions(&[("f", 3), ("g", 1)]), Traffic::Changed);
        assert_eq!(live(&record), "f:3=100 g:7=100");
        record.deploy(versions(&[("f", 3)]), Traffic::All);
        assert_eq!(live(&record), "f:3=100");
    }

    #[test]
    fn a_function_rolls_back_to_what_it_was_whatever_others_did_since() {
        let mut record = deployed(&[
            &[("f", 1), ("g", 1)],
            &[("f", 2), ("g", 1)],
            &[("f", 2), ("g", 2)],
        ]);
        assert!(record.roll_back(Some("f")));
        assert_eq!(live(&record), "f:1=100 g:2=100");
        assert!(record.roll_back(Some("f")));
        assert_eq!(live(&record), "f:2=100 g:2=100");
        assert!(!record.roll_back(Some("h")));
    }

    #[test]
    fn an_app_rolls_back_as_a_whole_functions_that_went_included() {
        let mut record = deployed(&[&[("f", 1), ("g", 1)], &[("f", 2), ("h", 1)]]);
        assert!(record.roll_back(None));
        assert_eq!(live(&record), "f:1=100 g:1=100");
        assert!(!deployed(&[&[("f", 1)]]).roll_back(None));
    }

    #[test]
    fn what_is_declared_takes_its_share_and_leaves_the_others_alone() {
        let mut record = deployed(&[&[("f", 1), ("g", 1), ("h", 1)]]);
        record.set("g", LIVE, Split::whole(7));
        let shares = [(LIVE, 10), ("candidate", 100)].map(|(alias, share)| (alias.to_owned(), share));
        let changed = BTreeMap::from([("f".to_owned(), BTreeMap::from(shares))]);
        record.declare(versions(&[("f", 2), ("g", 1)]), &changed);
        assert_eq!(live(&record), "f:2=10,1=90 g:7=100");
        assert_eq!(record.alias("f", "candidate"), Some(&Split::whole(2)));
        let whole = BTreeMap::from([("f".to_owned(), Shares::new())]);
        record.declare(versions(&[("f", 2), ("g", 1)]), &whole);
        assert_eq!(live(&record), "f:2=100 g:7=100");
        record.declare(BTreeMap::new(), &BTreeMap::new());
        assert_eq!(live(&record), "");
    }

    #[test]
    fn the_history_is_bounded_and_an_alias_can_go() {
        let mut record = AppRecord::default();
        for version in 1..=30 {
            record.deploy(versions(&[("f", version)]), Traffic::All);
        }
        assert_eq!(record.before.len(), HISTORY);
        record.set("f", "candidate", Split::whole(4));
        assert_eq!(
            record.aliases_of("f", 4),
            BTreeMap::from([("candidate".to_owned(), 100)])
        );
        assert!(record.needs("f", 4) && record.needs("f", 30) && record.needs("f", 29));
        assert!(record.unset("f", "candidate") && !record.unset("f", "candidate"));
        assert!(!record.needs("f", 4));
    }
}
