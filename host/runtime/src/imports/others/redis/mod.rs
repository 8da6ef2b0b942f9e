//! `fermyon:spin/redis@2` and `spin:redis@3`: Redis servers that the manifest grants.
//!
//! What is sent to a server is not undone, and is sent again when the invocation runs again: as with outbound HTTP.

mod address;
mod client;
mod reply;

use std::sync::Arc;

use wasmtime::component::{Accessor, Resource};

use super::Imports;
use super::bindings::fermyon::spin::redis as v2;
use super::bindings::spin::redis::redis as v3;
use crate::records::Level;
use crate::sandbox::{Call, Guest, resolve};
use address::Address;
use client::Client;
use reply::Item;

/// An open connection; its commands go one after the other.
#[derive(Clone)]
pub struct Connection(Arc<tokio::sync::Mutex<Client>>);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// No address of a server, or one that is not granted; the log says which.
    #[error("no address")]
    Address,
    /// The key holds something else.
    #[error("the key holds another type")]
    Type,
    /// What the server, or the way to it, says.
    #[error("{0}")]
    Other(String),
}

impl Connection {
    async fn open(call: &Call, address: &str) -> Result<Self, Fault> {
        let refuse = |reason: String| {
            call.log(Level::Warn, reason);
            Fault::Address
        };
        let address: Address = address.parse().map_err(refuse)?;
        let spec = &call.spec;
        spec.grants
            .allows_redis(&spec.name, &address.to_string())
            .and_then(|()| call.may_reach(&address.to_string()))
            .map_err(refuse)?;
        let place = resolve(&address.host, address.port).await.map_err(refuse)?;
        let client = Client::connect(&address, place).await?;
        Ok(Self(Arc::new(tokio::sync::Mutex::new(client))))
    }

    async fn ask(&self, command: &[&[u8]]) -> Result<Vec<Item>, Fault> {
        self.0.lock().await.ask(command).await
    }

    /// A command whose answer is one item.
    async fn ask_one(&self, command: &[&[u8]]) -> Result<Item, Fault> {
        self.ask(command).await?.pop().ok_or(Fault::Type)
    }

    async fn number(&self, command: &[&[u8]]) -> Result<i64, Fault> {
        match self.ask_one(command).await? {
            Item::Integer(number) => Ok(number),
            _ => Err(Fault::Type),
        }
    }

    async fn count(&self, name: &str, first: Option<&str>, rest: &[String]) -> Result<u32, Fault> {
        let mut command: Vec<&[u8]> = vec![name.as_bytes()];
        command.extend(first.map(str::as_bytes));
        command.extend(rest.iter().map(String::as_bytes));
        u32::try_from(self.number(&command).await?).map_err(|_| Fault::Type)
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        match self.ask_one(&[b"GET", key.as_bytes()]).await? {
            Item::Nil => Ok(None),
            Item::Bytes(bytes) => Ok(Some(bytes)),
            _ => Err(Fault::Type),
        }
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), Fault> {
        self.ask(&[b"SET", key.as_bytes(), value]).await.map(drop)
    }

    async fn publish(&self, channel: &str, payload: &[u8]) -> Result<(), Fault> {
        self.ask(&[b"PUBLISH", channel.as_bytes(), payload])
            .await
            .map(drop)
    }

    async fn members(&self, key: &str) -> Result<Vec<String>, Fault> {
        let items = self.ask(&[b"SMEMBERS", key.as_bytes()]).await?;
        let text = |item| match item {
            Item::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| Fault::Type),
            _ => Err(Fault::Type),
        };
        items.into_iter().map(text).collect()
    }
}

impl Guest {
    fn redis(&self, connection: &Resource<Connection>) -> wasmtime::Result<Connection> {
        self.count_call()?;
        Ok(self.table.get(connection)?.clone())
    }
}

fn of<T>(accessor: &Accessor<T, Imports>, connection: &Resource<Connection>) -> wasmtime::Result<Connection> {
    Guest::with(accessor, |guest| guest.redis(connection))
}

/// What both versions say in types of their own.
macro_rules! translated {
    ($version:ident) => {
        impl From<Fault> for $version::Error {
            fn from(fault: Fault) -> Self {
                match fault {
                    Fault::Address => Self::InvalidAddress,
                    Fault::Type => Self::TypeError,
                    Fault::Other(reason) => Self::Other(reason),
                }
            }
        }

        impl From<Item> for $version::RedisResult {
            fn from(item: Item) -> Self {
                match item {
                    Item::Nil => Self::Nil,
                    Item::Status(status) => Self::Status(status),
                    Item::Integer(number) => Self::Int64(number),
                    Item::Bytes(bytes) => Self::Binary(bytes),
                }
            }
        }

        impl $version::RedisParameter {
            fn into_bytes(self) -> Vec<u8> {
                match self {
                    Self::Int64(number) => number.to_string().into_bytes(),
                    Self::Binary(bytes) => bytes,
                }
            }
        }
    };
}

translated!(v2);
translated!(v3);

async fn execute(
    connection: &Connection,
    command: String,
    arguments: impl Iterator<Item = Vec<u8>>,
) -> Result<Vec<Item>, Fault> {
    let words: Vec<Vec<u8>> = std::iter::once(command.into_bytes()).chain(arguments).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    connection.ask(&words).await
}

impl v2::Host for Guest {}

impl v2::HostConnection for Guest {
    async fn open(&mut self, address: String) -> wasmtime::Result<Result<Resource<Connection>, v2::Error>> {
        self.count_call()?;
        match Connection::open(&self.call, &address).await {
            Ok(connection) => Ok(Ok(self.table.push(connection)?)),
            Err(fault) => Ok(Err(fault.into())),
        }
    }

    async fn publish(
        &mut self,
        connection: Resource<Connection>,
        channel: String,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v2::Error>> {
        let done = self.redis(&connection)?.publish(&channel, &payload).await;
        Ok(done.map_err(Into::into))
    }

    async fn get(
        &mut self,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, v2::Error>> {
        Ok(self.redis(&connection)?.get(&key).await.map_err(Into::into))
    }

    async fn set(
        &mut self,
        connection: Resource<Connection>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v2::Error>> {
        Ok(self
            .redis(&connection)?
            .set(&key, &value)
            .await
            .map_err(Into::into))
    }

    async fn incr(
        &mut self,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<i64, v2::Error>> {
        let sum = self.redis(&connection)?.number(&[b"INCR", key.as_bytes()]).await;
        Ok(sum.map_err(Into::into))
    }

    async fn del(
        &mut self,
        connection: Resource<Connection>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<u32, v2::Error>> {
        let count = self.redis(&connection)?.count("DEL", None, &keys).await;
        Ok(count.map_err(Into::into))
    }

    async fn sadd(
        &mut self,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<u32, v2::Error>> {
        let count = self.redis(&connection)?.count("SADD", Some(&key), &values).await;
        Ok(count.map_err(Into::into))
    }

    async fn smembers(
        &mut self,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<Vec<String>, v2::Error>> {
        Ok(self.redis(&connection)?.members(&key).await.map_err(Into::into))
    }

    async fn srem(
        &mut self,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<u32, v2::Error>> {
        let count = self.redis(&connection)?.count("SREM", Some(&key), &values).await;
        Ok(count.map_err(Into::into))
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        command: String,
        arguments: Vec<v2::RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<v2::RedisResult>, v2::Error>> {
        let arguments = arguments.into_iter().map(v2::RedisParameter::into_bytes);
        let items = execute(&self.redis(&connection)?, command, arguments).await;
        let items = items.map_err(v2::Error::from);
        Ok(items.map(|items| items.into_iter().map(Into::into).collect()))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl v3::Host for Guest {}

impl v3::HostConnection for Guest {
    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send + 'static> v3::HostConnectionWithStore<T> for Imports {
    async fn open(
        accessor: &Accessor<T, Self>,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, v3::Error>> {
        let call = Guest::call_of(accessor)?;
        match Connection::open(&call, &address).await {
            Ok(connection) => Guest::with(accessor, |guest| Ok(Ok(guest.table.push(connection)?))),
            Err(fault) => Ok(Err(fault.into())),
        }
    }

    async fn publish(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        channel: String,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v3::Error>> {
        let done = of(accessor, &connection)?.publish(&channel, &payload).await;
        Ok(done.map_err(Into::into))
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, v3::Error>> {
        Ok(of(accessor, &connection)?.get(&key).await.map_err(Into::into))
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v3::Error>> {
        Ok(of(accessor, &connection)?
            .set(&key, &value)
            .await
            .map_err(Into::into))
    }

    async fn incr(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<i64, v3::Error>> {
        let sum = of(accessor, &connection)?
            .number(&[b"INCR", key.as_bytes()])
            .await;
        Ok(sum.map_err(Into::into))
    }

    async fn del(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<u32, v3::Error>> {
        let count = of(accessor, &connection)?.count("DEL", None, &keys).await;
        Ok(count.map_err(Into::into))
    }

    async fn sadd(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<u32, v3::Error>> {
        let count = of(accessor, &connection)?
            .count("SADD", Some(&key), &values)
            .await;
        Ok(count.map_err(Into::into))
    }

    async fn smembers(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
    ) -> wasmtime::Result<Result<Vec<String>, v3::Error>> {
        Ok(of(accessor, &connection)?.members(&key).await.map_err(Into::into))
    }

    async fn srem(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> wasmtime::Result<Result<u32, v3::Error>> {
        let count = of(accessor, &connection)?
            .count("SREM", Some(&key), &values)
            .await;
        Ok(count.map_err(Into::into))
    }

    async fn execute(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        command: String,
        arguments: Vec<v3::RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<v3::RedisResult>, v3::Error>> {
        let arguments = arguments.into_iter().map(v3::RedisParameter::into_bytes);
        let items = execute(&of(accessor, &connection)?, command, arguments).await;
        let items = items.map_err(v3::Error::from);
        Ok(items.map(|items| items.into_iter().map(Into::into).collect()))
    }
}
