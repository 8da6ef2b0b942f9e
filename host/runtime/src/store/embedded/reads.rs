//! Reads: rows of the state, objects of the index.

use fjall::Readable as _;

use super::Core;
use super::rows::{ObjectRow, decode_value, entry_key, key_within, scan};
use crate::store::{ObjectMeta, Order, Page, StoreError, Versioned};

impl Core {
    pub(super) fn get_many(
        &self,
        table: &str,
        keys: &[String],
    ) -> Result<Vec<Option<Versioned>>, StoreError> {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| entry_key(table, key))
            .collect::<Result<_, _>>()?;
        self.cache.read(&self.db, &self.state, &keys)
    }

    pub(super) fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError> {
        let Some(range) = scan(table, prefix, after, order)? else {
            return Ok(no_page());
        };
        let rows = self.db.snapshot().range::<Vec<u8>, _>(&self.state, range);
        let rows: Box<dyn Iterator<Item = fjall::Guard>> = match order {
            Order::Ascending => Box::new(rows),
            Order::Descending => Box::new(rows.rev()),
        };
        let decode = |key: &[u8], value: &[u8]| Ok((key_within(table, key)?, decode_value(value)?));
        page(rows, limit, decode, |(key, _)| key)
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Result<Option<ObjectRow>, StoreError> {
        let row = self
            .db
            .snapshot()
            .get(&self.objects, entry_key(bucket, key)?)
            .map_err(StoreError::new)?;
        row.map(|row| ObjectRow::decode(&row)).transpose()
    }

    pub(super) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ObjectMeta>, StoreError> {
        let Some(range) = scan(bucket, prefix, after, Order::Ascending)? else {
            return Ok(no_page());
        };
        let rows = self.db.snapshot().range::<Vec<u8>, _>(&self.objects, range);
        page(
            rows,
            limit,
            |_, row| Ok(ObjectRow::decode(row)?.meta),
            |meta| &meta.key,
        )
    }
}

fn no_page<T>() -> Page<T> {
    Page {
        entries: Vec::new(),
        next: None,
    }
}

/// The first `limit` rows, and where the next page begins if there are more.
fn page<T>(
    mut rows: impl Iterator<Item = fjall::Guard>,
    limit: usize,
    decode: impl Fn(&[u8], &[u8]) -> Result<T, StoreError>,
    key: impl Fn(&T) -> &String,
) -> Result<Page<T>, StoreError> {
    let mut entries = Vec::new();
    for row in rows.by_ref().take(limit) {
        let (key, value) = row.into_inner().map_err(StoreError::new)?;
        entries.push(decode(&key, &value)?);
    }
    let more = !entries.is_empty() && rows.next().is_some();
    let next = entries.last().filter(|_| more).map(|last| key(last).clone());
    Ok(Page { entries, next })
}
