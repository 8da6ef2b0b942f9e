//! The registry of models in the state table, as functions read it and write it: under the condition that it still stands so.

use tidegate_ml::registry::{Alias, CHAMPION, ModelVersion, Next, TABLE, alias_key, next_key, version_key};
use tidegate_sdk::prelude::*;
use tidegate_sdk::state::{Versioned, get, put, put_if_absent, put_if_version};

/// A model's registry.
pub struct Registry<'a> {
    model: &'a str,
    next: Option<Versioned<Next>>,
    alias: Option<Versioned<Alias>>,
    /// The version in production.
    pub champion: Option<ModelVersion>,
}

impl<'a> Registry<'a> {
    /// Reads the counter and the champion.
    pub async fn open(model: &'a str) -> Result<Self, Failure> {
        let next = get(TABLE, &next_key(model)).await?;
        let alias: Option<Versioned<Alias>> = get(TABLE, &alias_key(model, CHAMPION)).await?;
        let champion = match &alias {
            Some(alias) => Some(version(model, alias.value.version).await?),
            None => None,
        };
        Ok(Self {
            model,
            next,
            alias,
            champion,
        })
    }

    /// The number the next version gets.
    pub fn next(&self) -> u64 {
        self.next.as_ref().map_or(1, |next| next.value.version)
    }

    /// The number of the version in production.
    pub fn champion_version(&self) -> Option<u64> {
        self.champion.as_ref().map(|champion| champion.version)
    }

    /// Stages the version, the counter and the aliases. Should another evaluation commit in between, this one is
    /// tried again and compares with the new champion.
    pub fn register(&self, version: &ModelVersion, aliases: &[(&str, u64)], now: u64) -> Result<(), Failure> {
        put_if_absent(TABLE, &version_key(self.model, version.version), version)?;
        let counter = Next {
            version: version.version + 1,
        };
        put_unchanged(&next_key(self.model), &counter, self.next.as_ref())?;
        for (name, target) in aliases {
            let (key, alias) = (alias_key(self.model, name), Alias::to(*target, now));
            if *name == CHAMPION {
                put_unchanged(&key, &alias, self.alias.as_ref())?;
            } else {
                put(TABLE, &key, &alias)?;
            }
        }
        Ok(())
    }
}

async fn version(model: &str, number: u64) -> Result<ModelVersion, Failure> {
    let found: Option<Versioned<ModelVersion>> = get(TABLE, &version_key(model, number)).await?;
    let found = found.or_reject_with(&format!(
        "alias `{CHAMPION}` names version {number}, which does not exist"
    ))?;
    Ok(found.value)
}

fn put_unchanged<T: Serialize>(key: &str, value: &T, before: Option<&Versioned<T>>) -> Result<(), Failure> {
    match before {
        Some(before) => put_if_version(TABLE, key, value, before.version),
        None => put_if_absent(TABLE, key, value),
    }
}
