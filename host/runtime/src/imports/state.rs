//! `state`: small values in tables.

use std::collections::BTreeMap;

use wasmtime::component::Accessor;

use super::bindings::tidegate::function::state;
use super::{Error, Imports, LONGEST_KEY, at_most, valid_key};
use crate::sandbox::{Call, Guest};
use crate::store::{Condition, Order, StateWrite, Versioned};

/// Keys of one read, entries of one page.
const PAGE: usize = 1000;

impl state::Host for Guest {
    fn put(
        &mut self,
        table: String,
        key: String,
        value: Vec<u8>,
        condition: state::Condition,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        Ok(self.call.stage_state(table, key, Some(value), condition))
    }

    fn delete(
        &mut self,
        table: String,
        key: String,
        condition: state::Condition,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        Ok(self.call.stage_state(table, key, None, condition))
    }
}

impl<T: Send + 'static> state::HostWithStore<T> for Imports {
    async fn get(
        accessor: &Accessor<T, Self>,
        table: String,
        key: String,
    ) -> wasmtime::Result<Result<Option<state::Entry>, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call
            .entries(&table, vec![key])
            .await
            .map(|mut entries| entries.pop().flatten()))
    }

    async fn get_many(
        accessor: &Accessor<T, Self>,
        table: String,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<state::Entry>>, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.entries(&table, keys).await)
    }

    async fn query(
        accessor: &Accessor<T, Self>,
        table: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<state::Page, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.query(&table, &prefix, after, limit as usize).await)
    }
}

impl Call {
    pub(super) fn stage_state(
        &self,
        table: String,
        key: String,
        value: Option<Vec<u8>>,
        condition: state::Condition,
    ) -> Result<(), Error> {
        self.spec
            .grants
            .allows_state_write(&self.spec.name, &table)
            .map_err(Error::Denied)?;
        valid_key(&key)?;
        let condition = match condition {
            state::Condition::None => Condition::None,
            state::Condition::Absent => Condition::Absent,
            state::Condition::Version(version) => Condition::Version(version),
        };
        self.effects().write(StateWrite {
            table,
            key,
            value: value.map(Into::into),
            condition,
        })?;
        Ok(())
    }

    pub(super) async fn entries(
        &self,
        table: &str,
        keys: Vec<String>,
    ) -> Result<Vec<Option<state::Entry>>, Error> {
        self.spec
            .grants
            .allows_state_read(&self.spec.name, table)
            .map_err(Error::Denied)?;
        at_most("keys", keys.len(), PAGE)?;
        keys.iter().try_for_each(|key| valid_key(key))?;
        let rows = self.state_rows(table, &keys).await?;
        Ok(keys
            .into_iter()
            .zip(rows)
            .map(|(key, row)| row.map(|row| entry(key, row)))
            .collect())
    }

    /// Stored rows under this invocation's own writes; no grant is checked here.
    pub(super) async fn state_rows(
        &self,
        table: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Versioned>>, Error> {
        let rows = self.services.store.get_many(table, keys).await;
        let mut rows = rows.map_err(|error| self.unavailable(error))?;
        let effects = self.effects();
        for (row, key) in rows.iter_mut().zip(keys) {
            if let Some(write) = effects.state(table, key) {
                *row = write.value.clone().map(|value| Versioned { value, version: 0 });
            }
        }
        Ok(rows)
    }

    pub(super) async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<state::Page, Error> {
        self.spec
            .grants
            .allows_state_read(&self.spec.name, table)
            .map_err(Error::Denied)?;
        at_most("bytes of a prefix", prefix.len(), LONGEST_KEY)?;
        at_most(
            "bytes of a key",
            after.as_deref().map_or(0, str::len),
            LONGEST_KEY,
        )?;
        let limit = limit.clamp(1, PAGE);
        let page = self
            .services
            .store
            .query(table, prefix, after.as_deref(), limit, Order::Ascending)
            .await
            .map_err(|error| self.unavailable(error))?;
        let mut rows: BTreeMap<String, Versioned> = page.entries.into_iter().collect();
        let effects = self.effects();
        let seen = |key: &str| {
            after.as_deref().is_none_or(|after| key > after)
                && page.next.as_deref().is_none_or(|next| key <= next)
        };
        for write in effects
            .state_under(table, prefix)
            .filter(|write| seen(&write.key))
        {
            match &write.value {
                Some(value) => rows.insert(
                    write.key.clone(),
                    Versioned {
                        value: value.clone(),
                        version: 0,
                    },
                ),
                None => rows.remove(&write.key),
            };
        }
        let mut entries: Vec<_> = rows.into_iter().map(|(key, row)| entry(key, row)).collect();
        let mut next = page.next;
        if entries.len() > limit {
            entries.truncate(limit);
            next = entries.last().map(|entry| entry.key.clone());
        }
        Ok(state::Page { entries, next })
    }
}

fn entry(key: String, row: Versioned) -> state::Entry {
    state::Entry {
        key,
        value: row.value.into(),
        version: row.version,
    }
}
