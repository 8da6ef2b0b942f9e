//! What is declared, for people: where each function is.

use serde::Serialize;

use super::Look;
use super::settled::{Row, digest};
use crate::platform::Platform;
use crate::platform::apps::AppRecord;
use crate::store::{Declaration, StoreError};

/// A function that is declared beside the platform, or was.
#[derive(Debug, Clone, Serialize)]
pub struct Declared {
    /// Its app.
    pub app: String,
    /// Its name.
    pub function: String,
    /// Where it is.
    pub state: DeclaredState,
    /// The version that was deployed last.
    pub version: Option<u64>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a declared function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeclaredState {
    /// No host has looked at it yet.
    Pending,
    /// It is deployed as it is declared.
    Deployed,
    /// It is mistaken; what it was before goes on.
    Refused,
    /// It is not declared any more, and handles the events that it has taken.
    Draining,
}

impl Platform {
    /// What is declared beside the platform, and what drains since it is not declared any more.
    pub async fn declared(&self) -> Result<Vec<Declared>, StoreError> {
        let store = self.services.store.as_ref();
        let Some(source) = store.declarations() else {
            return Ok(Vec::new());
        };
        let rows = Row::read_all(store).await?;
        let mut all = Vec::new();
        for look in Look::at_all(source.declared().await?, rows) {
            let (record, _) = AppRecord::read(store, &look.app).await?;
            all.extend(
                look.declared
                    .iter()
                    .map(|declaration| look.shown(&record, declaration)),
            );
            all.extend(look.gone().map(|function| Declared {
                app: look.app.clone(),
                function: function.clone(),
                state: DeclaredState::Draining,
                version: record.deployed(function),
                reason: None,
            }));
        }
        Ok(all)
    }
}

impl Look {
    fn shown(&self, record: &AppRecord, declaration: &Declaration) -> Declared {
        let (state, reason) = self.state(declaration);
        Declared {
            app: self.app.clone(),
            function: declaration.function.clone(),
            state,
            version: record.deployed(&declaration.function),
            reason,
        }
    }

    fn state(&self, declaration: &Declaration) -> (DeclaredState, Option<String>) {
        let (settled, now) = (&self.row.settled, digest(declaration));
        let seen = settled.functions.get(&declaration.function);
        let Some(seen) = seen.filter(|seen| seen.declaration == now) else {
            return (DeclaredState::Pending, None);
        };
        let held = settled.refused.as_ref().map(|held| &held.reason);
        match seen.refused.as_ref().or(held) {
            Some(reason) if seen.deployed.as_ref() != Some(&now) => {
                (DeclaredState::Refused, Some(reason.clone()))
            }
            _ => (DeclaredState::Deployed, None),
        }
    }

    /// Functions that were declared.
    fn gone(&self) -> impl Iterator<Item = &String> {
        let settled = &self.row.settled;
        let known = settled.functions.keys().chain(settled.leaving.keys());
        known.filter(|function| !self.declared.iter().any(|one| one.function == **function))
    }
}
