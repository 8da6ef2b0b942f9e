//! `wasi:keyvalue@0.2.0-draft2`: stores, batches, and writes that depend on what was read.

use wasmtime::component::Resource;

use super::bindings::wasi::keyvalue::{atomics, batch, store};
use super::table::Table;
use super::{Error, reason};
use crate::sandbox::{Call, Guest};
use crate::store::Versioned;

/// A compare-and-swap that has read its key.
pub struct Swap {
    table: Table,
    key: String,
    seen: Option<Versioned>,
}

impl Call {
    fn keyvalue_error(&self, error: Error) -> store::Error {
        match self.note_denied(error) {
            Error::Denied(_) => store::Error::AccessDenied,
            error => store::Error::Other(reason(error)),
        }
    }
}

impl store::Host for Guest {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Table>, store::Error>> {
        let opened = self.open_table(&identifier)?;
        Ok(opened.map_err(|error| self.call.keyvalue_error(error)))
    }
}

impl store::HostBucket for Guest {
    async fn get(
        &mut self,
        bucket: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let found = table.get(&call, key).await;
        Ok(found.map_err(|error| call.keyvalue_error(error)))
    }

    async fn set(
        &mut self,
        bucket: Resource<Table>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let put = table.put(&call, key, Some(value));
        Ok(put.map_err(|error| call.keyvalue_error(error)))
    }

    async fn delete(
        &mut self,
        bucket: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let put = table.put(&call, key, None);
        Ok(put.map_err(|error| call.keyvalue_error(error)))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<bool, store::Error>> {
        let found = store::HostBucket::get(self, bucket, key).await?;
        Ok(found.map(|value| value.is_some()))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Table>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<store::KeyResponse, store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let page = table.page(&call, cursor).await;
        let page = page.map_err(|error| call.keyvalue_error(error));
        Ok(page.map(|(keys, cursor)| store::KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Table>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl batch::Host for Guest {
    async fn get_many(
        &mut self,
        bucket: Resource<Table>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<(String, Option<Vec<u8>>)>, store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let found = table.get_many(&call, keys).await;
        Ok(found.map_err(|error| call.keyvalue_error(error)))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Table>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let put = |(key, value)| table.put(&call, key, Some(value));
        let put = key_values.into_iter().try_for_each(put);
        Ok(put.map_err(|error| call.keyvalue_error(error)))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Table>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let put = keys.into_iter().try_for_each(|key| table.put(&call, key, None));
        Ok(put.map_err(|error| call.keyvalue_error(error)))
    }
}

impl atomics::Host for Guest {
    /// Adds to a number in decimal digits; the invocation commits only if nobody else has written it since.
    async fn increment(
        &mut self,
        bucket: Resource<Table>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        let sum = add(&call, &table, key, delta).await;
        Ok(sum.map_err(|error| call.keyvalue_error(error)))
    }

    async fn swap(
        &mut self,
        swap: Resource<Swap>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        self.count_call()?;
        let Swap { table, key, seen } = self.table.delete(swap)?;
        let now = match table.read(&self.call, &key).await {
            Ok(now) => now,
            Err(error) => return Ok(Err(store_error(&self.call, error))),
        };
        if now.as_ref().map(|row| &row.value) != seen.as_ref().map(|row| &row.value) {
            let again = self.table.push(Swap {
                table,
                key,
                seen: now,
            })?;
            return Ok(Err(atomics::CasError::CasFailed(again)));
        }
        let replaced = table.replace(&self.call, key, seen.as_ref(), value);
        Ok(replaced.map_err(|error| store_error(&self.call, error)))
    }
}

impl atomics::HostCas for Guest {
    async fn new(
        &mut self,
        bucket: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Swap>, store::Error>> {
        let (call, table) = self.table_of(&bucket)?;
        match table.read(&call, &key).await {
            Ok(seen) => Ok(Ok(self.table.push(Swap { table, key, seen })?)),
            Err(error) => Ok(Err(call.keyvalue_error(error))),
        }
    }

    async fn current(
        &mut self,
        swap: Resource<Swap>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, store::Error>> {
        self.count_call()?;
        let seen = &self.table.get(&swap)?.seen;
        Ok(Ok(seen.as_ref().map(|row| row.value.to_vec())))
    }

    async fn drop(&mut self, swap: Resource<Swap>) -> wasmtime::Result<()> {
        self.table.delete(swap)?;
        Ok(())
    }
}

fn store_error(call: &Call, error: Error) -> atomics::CasError {
    atomics::CasError::StoreError(call.keyvalue_error(error))
}

async fn add(call: &Call, table: &Table, key: String, delta: i64) -> Result<i64, Error> {
    let seen = table.read(call, &key).await?;
    let number = match &seen {
        None => Some(0),
        Some(row) => std::str::from_utf8(&row.value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok()),
    };
    let sum = number
        .and_then(|number| number.checked_add(delta))
        .ok_or_else(|| {
            Error::Invalid(format!(
                "the value of `{}` plus {delta} is no number from {} to {}",
                key.escape_debug(),
                i64::MIN,
                i64::MAX
            ))
        })?;
    table.replace(call, key, seen.as_ref(), sum.to_string().into_bytes())?;
    Ok(sum)
}
