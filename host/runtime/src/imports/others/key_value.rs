//! `fermyon:spin/key-value@2` and `spin:key-value@3`.

use std::sync::Arc;

use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use super::bindings::fermyon::spin::key_value as v2;
use super::bindings::spin::key_value::key_value as v3;
use super::table::Table;
use super::{Error, Imports, reason};
use crate::sandbox::{Call, Guest};

/// The two versions have the same errors.
macro_rules! errors {
    ($version:ident, $call:expr) => {
        |error: Error| match $call.note_denied(error) {
            Error::Denied(_) => $version::Error::AccessDenied,
            error => $version::Error::Other(reason(error)),
        }
    };
}

impl v2::Host for Guest {}

impl v2::HostStore for Guest {
    async fn open(&mut self, label: String) -> wasmtime::Result<Result<Resource<Table>, v2::Error>> {
        let opened = self.open_table(&label)?;
        Ok(opened.map_err(errors!(v2, self.call)))
    }

    async fn get(
        &mut self,
        store: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, v2::Error>> {
        let (call, table) = self.table_of(&store)?;
        Ok(table.get(&call, key).await.map_err(errors!(v2, call)))
    }

    async fn set(
        &mut self,
        store: Resource<Table>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v2::Error>> {
        let (call, table) = self.table_of(&store)?;
        Ok(table.put(&call, key, Some(value)).map_err(errors!(v2, call)))
    }

    async fn delete(
        &mut self,
        store: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<(), v2::Error>> {
        let (call, table) = self.table_of(&store)?;
        Ok(table.put(&call, key, None).map_err(errors!(v2, call)))
    }

    async fn exists(
        &mut self,
        store: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<bool, v2::Error>> {
        let (call, table) = self.table_of(&store)?;
        let found = table.get(&call, key).await.map_err(errors!(v2, call));
        Ok(found.map(|value| value.is_some()))
    }

    async fn get_keys(&mut self, store: Resource<Table>) -> wasmtime::Result<Result<Vec<String>, v2::Error>> {
        let (call, table) = self.table_of(&store)?;
        Ok(table.keys(&call).await.map_err(errors!(v2, call)))
    }

    async fn drop(&mut self, store: Resource<Table>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

impl v3::Host for Guest {}

impl v3::HostStore for Guest {
    async fn drop(&mut self, store: Resource<Table>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

fn of<T>(accessor: &Accessor<T, Imports>, store: &Resource<Table>) -> wasmtime::Result<(Arc<Call>, Table)> {
    Guest::with(accessor, |guest| guest.table_of(store))
}

impl<T: Send + 'static> v3::HostStoreWithStore<T> for Imports {
    async fn open(
        accessor: &Accessor<T, Self>,
        label: String,
    ) -> wasmtime::Result<Result<Resource<Table>, v3::Error>> {
        Guest::with(accessor, |guest| {
            let opened = guest.open_table(&label)?;
            Ok(opened.map_err(errors!(v3, guest.call)))
        })
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        store: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, v3::Error>> {
        let (call, table) = of(accessor, &store)?;
        Ok(table.get(&call, key).await.map_err(errors!(v3, call)))
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        store: Resource<Table>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v3::Error>> {
        let (call, table) = of(accessor, &store)?;
        Ok(table.put(&call, key, Some(value)).map_err(errors!(v3, call)))
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        store: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<(), v3::Error>> {
        let (call, table) = of(accessor, &store)?;
        Ok(table.put(&call, key, None).map_err(errors!(v3, call)))
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        store: Resource<Table>,
        key: String,
    ) -> wasmtime::Result<Result<bool, v3::Error>> {
        let (call, table) = of(accessor, &store)?;
        let found = table.get(&call, key).await.map_err(errors!(v3, call));
        Ok(found.map(|value| value.is_some()))
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        store: Resource<Table>,
    ) -> wasmtime::Result<(StreamReader<String>, FutureReader<Result<(), v3::Error>>)> {
        let (call, table) = of(accessor, &store)?;
        let (keys, ended) = match table.keys(&call).await.map_err(errors!(v3, call)) {
            Ok(keys) => (keys, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        accessor.with(|mut access: Access<'_, T, Self>| {
            let keys = StreamReader::new(&mut access, keys)?;
            let ended = FutureReader::new(&mut access, async move { wasmtime::error::Ok(ended) })?;
            Ok((keys, ended))
        })
    }
}
