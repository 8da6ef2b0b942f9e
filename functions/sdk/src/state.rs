//! Small values in tables, by key, as JSON or as bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::tidegate::function::state as host;
use crate::{Error, Failure};

pub use host::{Condition, Entry};

/// Keys or entries of one call to the host.
const PAGE: usize = 1000;

/// A value and the version of it that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Changes with every write of the key; see [`put_if_version`].
    pub version: u64,
}

/// The value of `key` as JSON.
pub async fn get<T: DeserializeOwned>(table: &str, key: &str) -> Result<Option<Versioned<T>>, Failure> {
    match get_raw(table, key).await? {
        Some(entry) => Ok(Some(decode(table, &entry)?)),
        None => Ok(None),
    }
}

/// The value of `key` as bytes.
pub async fn get_raw(table: &str, key: &str) -> Result<Option<Entry>, Error> {
    host::get(table.to_owned(), key.to_owned()).await
}

/// The values of `keys` as JSON, in order, any number of them.
pub async fn get_many<T: DeserializeOwned>(
    table: &str,
    keys: &[String],
) -> Result<Vec<Option<Versioned<T>>>, Failure> {
    let mut found = Vec::with_capacity(keys.len());
    for some in keys.chunks(PAGE) {
        for entry in host::get_many(table.to_owned(), some.to_vec()).await? {
            found.push(entry.map(|entry| decode(table, &entry)).transpose()?);
        }
    }
    Ok(found)
}

/// Writes a value as JSON, whatever was there.
pub fn put(table: &str, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
    put_when(table, key, value, Condition::None)
}

/// Writes a value as JSON; if the key exists when the invocation commits, the event is tried again.
pub fn put_if_absent(table: &str, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
    put_when(table, key, value, Condition::Absent)
}

/// Writes a value as JSON; if `version` is no longer the key's when the invocation commits, the event is
/// tried again.
pub fn put_if_version(
    table: &str,
    key: &str,
    value: &(impl Serialize + ?Sized),
    version: u64,
) -> Result<(), Failure> {
    put_when(table, key, value, Condition::Version(version))
}

/// Writes bytes.
pub fn put_raw(table: &str, key: &str, value: &[u8], condition: Condition) -> Result<(), Error> {
    host::put(table, key, value, condition)
}

/// Removes a key.
pub fn delete(table: &str, key: &str, condition: Condition) -> Result<(), Error> {
    host::delete(table, key, condition)
}

/// The entries whose keys start with `prefix`, in byte order.
pub fn query(table: &str, prefix: &str) -> Query {
    Query {
        table: table.to_owned(),
        prefix: prefix.to_owned(),
        after: None,
        page: Vec::new().into_iter(),
        complete: false,
    }
}

/// A query, fetched page by page.
pub struct Query {
    table: String,
    prefix: String,
    after: Option<String>,
    page: std::vec::IntoIter<Entry>,
    complete: bool,
}

impl Query {
    /// The next key and its value as JSON; none at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(String, Versioned<T>)>, Failure> {
        match self.next_raw().await? {
            Some(entry) => {
                let value = decode(&self.table, &entry)?;
                Ok(Some((entry.key, value)))
            }
            None => Ok(None),
        }
    }

    /// The next entry; none at the end.
    pub async fn next_raw(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            if self.complete {
                return Ok(None);
            }
            let (table, prefix) = (self.table.clone(), self.prefix.clone());
            let page = host::query(table, prefix, self.after.take(), PAGE as u32).await?;
            self.complete = page.next.is_none();
            self.after = page.next;
            self.page = page.entries.into_iter();
        }
    }
}

fn put_when(
    table: &str,
    key: &str,
    value: &(impl Serialize + ?Sized),
    condition: Condition,
) -> Result<(), Failure> {
    Ok(host::put(table, key, &serde_json::to_vec(value)?, condition)?)
}

fn decode<T: DeserializeOwned>(table: &str, entry: &Entry) -> Result<Versioned<T>, Failure> {
    let value = serde_json::from_slice(&entry.value)
        .map_err(|error| Failure::reject(format!("state `{table}/{}`: {error}", entry.key)))?;
    Ok(Versioned {
        value,
        version: entry.version,
    })
}
