//! A store of keys and values: one table of state.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::super::bindings::tidegate::function::state::Condition;
use super::Error;
use crate::records::Level;
use crate::sandbox::{Call, Guest};
use crate::store::Versioned;

/// Keys that are listed in one go, where an interface knows no pages.
const KEYS: usize = 10_000;
/// Keys of one page.
const PAGE: usize = 1000;

/// An open store.
#[derive(Clone)]
pub struct Table(Arc<str>);

impl Table {
    /// The table of this name, where the function may read or write it.
    fn open(call: &Call, name: &str) -> Result<Self, Error> {
        let (spec, grants) = (&call.spec, &call.spec.grants);
        let writes = grants.allows_state_write(&spec.name, name).is_ok();
        match grants.allows_state_read(&spec.name, name) {
            Err(denied) if !writes => Err(Error::Denied(denied)),
            _ => Ok(Self(name.into())),
        }
    }

    pub(super) async fn get(&self, call: &Call, key: String) -> Result<Option<Vec<u8>>, Error> {
        let row = call.entries(&self.0, vec![key]).await?.pop().flatten();
        Ok(row.map(|row| row.value))
    }

    pub(super) async fn get_many(
        &self,
        call: &Call,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, Error> {
        let rows = call.entries(&self.0, keys.clone()).await?;
        let values = rows.into_iter().map(|row| row.map(|row| row.value));
        Ok(keys.into_iter().zip(values).collect())
    }

    pub(super) fn put(&self, call: &Call, key: String, value: Option<Vec<u8>>) -> Result<(), Error> {
        call.stage_state(self.0.to_string(), key, value, Condition::None)
    }

    /// The value with its version, for a write that depends on it.
    pub(super) async fn read(&self, call: &Call, key: &str) -> Result<Option<Versioned>, Error> {
        let row = call.entries(&self.0, vec![key.to_owned()]).await?.pop().flatten();
        Ok(row.map(|row| Versioned {
            value: row.value.into(),
            version: row.version,
        }))
    }

    /// Writes what was made of `seen`: the invocation commits only if nobody else has written the key since.
    pub(super) fn replace(
        &self,
        call: &Call,
        key: String,
        seen: Option<&Versioned>,
        value: Vec<u8>,
    ) -> Result<(), Error> {
        let own = call.effects().state(&self.0, &key).is_some();
        let condition = match seen {
            // The invocation's own write carries its condition already.
            _ if own => Condition::None,
            Some(row) => Condition::Version(row.version),
            None => Condition::Absent,
        };
        call.stage_state(self.0.to_string(), key, Some(value), condition)
    }

    /// A page of keys after `after`, and what comes after it.
    pub(super) async fn page(
        &self,
        call: &Call,
        after: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Error> {
        let page = call.query(&self.0, "", after, PAGE).await?;
        Ok((
            page.entries.into_iter().map(|entry| entry.key).collect(),
            page.next,
        ))
    }

    /// Every key; an error where there are too many to list in one go.
    pub(super) async fn keys(&self, call: &Call) -> Result<Vec<String>, Error> {
        let (mut keys, mut next) = self.page(call, None).await?;
        while let Some(after) = next {
            if keys.len() >= KEYS {
                return Err(Error::Limit(format!(
                    "store `{}` has more than {KEYS} keys, and no more are listed in one go",
                    self.0
                )));
            }
            let (more, rest) = self.page(call, Some(after)).await?;
            keys.extend(more);
            next = rest;
        }
        Ok(keys)
    }
}

impl Guest {
    /// Opens a store; a refusal is logged, as the interfaces of others have no word for its reason.
    pub(super) fn open_table(&mut self, name: &str) -> wasmtime::Result<Result<Resource<Table>, Error>> {
        self.count_call()?;
        match Table::open(&self.call, name) {
            Ok(table) => Ok(Ok(self.table.push(table)?)),
            Err(denied) => Ok(Err(self.call.note_denied(denied))),
        }
    }

    /// An open store, with the invocation; counts the call.
    pub(super) fn table_of(&self, table: &Resource<Table>) -> wasmtime::Result<(Arc<Call>, Table)> {
        self.count_call()?;
        Ok((self.call.clone(), self.table.get(table)?.clone()))
    }
}

impl Call {
    /// Logs which grant is missing; every other error goes by unlogged.
    pub(super) fn note_denied(&self, error: Error) -> Error {
        if let Error::Denied(reason) = &error {
            self.log(Level::Warn, reason.clone());
        }
        error
    }
}
