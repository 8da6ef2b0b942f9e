//! What was made of the declarations of an app, as it is kept: one row for each app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::platform::deployment::MOST_APPS;
use crate::sandbox::sha256_hex;
use crate::store::{Condition, Declaration, Order, StateWrite, Store, StoreError};

/// The table of what was made of declarations.
const DECLARED: &str = "$declared";

/// What was made of the declarations of an app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    /// Its functions that are declared.
    #[serde(default)]
    pub(super) functions: BTreeMap<String, Seen>,
    /// Functions that are not declared any more and may have events left, with the time since when.
    #[serde(default)]
    pub(super) leaving: BTreeMap<String, u64>,
    /// Why the app is as it was before.
    #[serde(default)]
    pub(super) refused: Option<Held>,
}

/// What was made of one declaration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The declaration that was looked at last.
    pub(super) declaration: String,
    /// The one that is deployed: the same, unless it was refused.
    #[serde(default)]
    pub(super) deployed: Option<String>,
    /// Why it was refused.
    #[serde(default)]
    pub(super) refused: Option<String>,
    /// What lay in its component's place then.
    #[serde(default)]
    pub(super) tag: Option<String>,
}

/// An app that cannot be deployed for a reason that lies between its functions, or with another app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Why.
    pub(super) reason: String,
    /// When it is tried again, in milliseconds since the Unix epoch.
    pub(super) again: u64,
}

/// A row, with what has to hold of it when it is written back.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) settled: Settled,
    pub(super) condition: Condition,
}

impl Row {
    /// That of an app of which nothing was declared so far.
    pub(super) fn new() -> Self {
        Self {
            settled: Settled::default(),
            condition: Condition::Absent,
        }
    }

    /// Every row, by app.
    pub(super) async fn read_all(store: &dyn Store) -> Result<BTreeMap<String, Self>, StoreError> {
        let page = store
            .query(DECLARED, "", None, MOST_APPS, Order::Ascending)
            .await?;
        let read = page.entries.into_iter().map(|(app, row)| {
            let settled = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
            let condition = Condition::Version(row.version);
            Ok((app, Self { settled, condition }))
        });
        read.collect()
    }

    /// The write of what was made of it since.
    pub(super) fn write(&self, app: &str, settled: &Settled) -> Result<StateWrite, StoreError> {
        let gone = *settled == Settled::default();
        let value = serde_json::to_vec(settled).map_err(StoreError::new)?;
        Ok(StateWrite {
            table: DECLARED.into(),
            key: app.to_owned(),
            value: (!gone).then(|| value.into()),
            condition: self.condition,
        })
    }
}

impl Settled {
    /// Whether all this was made of these declarations, and there is nothing to try again.
    pub(super) fn is_of(&self, declared: &[Declaration], now: u64) -> bool {
        let same = |declaration: &Declaration| {
            let seen = self.functions.get(&declaration.function);
            seen.is_some_and(|seen| seen.declaration == digest(declaration))
        };
        self.functions.len() == declared.len()
            && declared.iter().all(same)
            && self.refused.as_ref().is_none_or(|held| now < held.again)
    }
}

/// Tells a declaration from another one of the same function.
pub(super) fn digest(declaration: &Declaration) -> String {
    let Declaration {
        app: _,
        function: _,
        tenant,
        words,
        aliases,
        component,
        digest,
    } = declaration;
    let tenant = tenant.as_deref().unwrap_or_default();
    let all = [tenant, words, aliases, component, digest].map(|part| format!("{}:{part}", part.len()));
    sha256_hex(all.concat().as_bytes())
}
