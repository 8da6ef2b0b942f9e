//! Reading state.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_get_items::TransactGetItemsError;
use aws_sdk_dynamodb::types::{Get, TransactGetItem};
use futures::future::try_join_all;
use tidegate_runtime::store::{Order, Page, StoreError, Versioned};

use crate::failure;
use crate::items::{Item, text};
use crate::keys::{self, Key, sortable, sorted};
use crate::store::{Core, Patience};

/// Rows that can be read at one moment.
const AT_ONCE: usize = 100;

impl Core {
    /// One row as it is now.
    pub(crate) async fn row(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let get = self.dynamo.get_item().table_name(&self.settings.table);
        let get = get.set_key(Some(key.item())).consistent_read(true);
        let found = get.send().await.map_err(failure::of("DynamoDB"))?;
        Ok(found.item)
    }

    pub(crate) async fn get(&self, table: &str, key: &str) -> Result<Option<Versioned>, StoreError> {
        match self.row(&keys::state(table, key)?).await? {
            Some(item) => self.value_of(&item).await,
            None => Ok(None),
        }
    }

    /// The values of keys; of a hundred different ones, as they were at one moment.
    pub(crate) async fn get_many(
        &self,
        table: &str,
        wanted: &[String],
    ) -> Result<Vec<Option<Versioned>>, StoreError> {
        if let [key] = wanted {
            return Ok(vec![self.get(table, key).await?]);
        }
        let mut distinct: Vec<&String> = wanted.iter().collect();
        distinct.sort();
        distinct.dedup();
        let mut found = HashMap::new();
        for some in distinct.chunks(AT_ONCE) {
            let keys: Result<Vec<_>, _> = some.iter().map(|key| keys::state(table, key)).collect();
            let rows = self.rows(&keys?).await?;
            let read = rows.iter().map(async |row| match row {
                Some(item) => self.value_of(item).await,
                None => Ok(None),
            });
            found.extend(some.iter().zip(try_join_all(read).await?));
        }
        Ok(wanted
            .iter()
            .map(|key| found.get(&key).cloned().flatten())
            .collect())
    }

    /// Rows as they are at one moment; a transaction that writes one of them is waited for.
    async fn rows(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, StoreError> {
        let mut patience = Patience::new();
        loop {
            let gets = keys
                .iter()
                .map(|key| self.get_of(key))
                .collect::<Result<_, _>>()?;
            let asked = self.dynamo.transact_get_items().set_transact_items(Some(gets));
            match asked.send().await {
                Ok(found) => {
                    let rows = found.responses.unwrap_or_default();
                    return Ok(rows.into_iter().map(|row| row.item).collect());
                }
                Err(error) if is_busy(&error) && patience.wait().await => {}
                Err(error) => return Err(failure::of("DynamoDB")(error)),
            }
        }
    }

    fn get_of(&self, key: &Key) -> Result<TransactGetItem, StoreError> {
        let get = Get::builder().table_name(&self.settings.table);
        let get = get.set_key(Some(key.item())).build().map_err(StoreError::new)?;
        Ok(TransactGetItem::builder().get(get).build())
    }

    pub(crate) async fn query(
        &self,
        table: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<(String, Versioned)>, StoreError> {
        let page = self
            .page(&keys::table(table), prefix, after, limit, order)
            .await?;
        let read = page
            .entries
            .iter()
            .map(async |item| Ok::<_, StoreError>((sorted(item).to_owned(), self.value_of(item).await?)));
        let read = try_join_all(read).await?.into_iter();
        Ok(Page {
            entries: read.filter_map(|(key, value)| Some((key, value?))).collect(),
            next: page.next,
        })
    }

    /// Rows of a partition by their keys.
    pub(crate) async fn page(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Page<Item>, StoreError> {
        let mut rows = match Start::of(prefix, after, order).filter(|_| limit > 0) {
            // One more than asked for tells whether there are more.
            Some(start) => self.rows_from(partition, prefix, start, limit + 1, order).await?,
            None => Vec::new(),
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| sorted(last).to_owned());
        Ok(Page { entries: rows, next })
    }

    async fn rows_from(
        &self,
        partition: &str,
        prefix: &str,
        start: Start<'_>,
        count: usize,
        order: Order,
    ) -> Result<Vec<Item>, StoreError> {
        let (mut start, mut rows) = (start.key(partition), Vec::new());
        loop {
            let query = self.dynamo.query().table_name(&self.settings.table);
            let query = query
                .key_condition_expression("pk = :p AND begins_with(sk, :s)")
                .expression_attribute_values(":p", text(partition))
                .expression_attribute_values(":s", text(&sortable(prefix)))
                .scan_index_forward(order == Order::Ascending)
                .consistent_read(true)
                .limit(i32::try_from(count - rows.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start);
            let found = query.send().await.map_err(failure::of("DynamoDB"))?;
            rows.extend(found.items.unwrap_or_default());
            start = found.last_evaluated_key;
            if rows.len() >= count || start.is_none() {
                return Ok(rows);
            }
        }
    }
}

/// Where a page begins, which has to lie within its prefix.
enum Start<'a> {
    Beginning,
    After(&'a str),
}

impl<'a> Start<'a> {
    fn key(&self, partition: &str) -> Option<Item> {
        let Self::After(after) = self else {
            return None;
        };
        let key = Key {
            pk: partition.to_owned(),
            sk: sortable(after),
        };
        Some(key.item())
    }

    /// None where there is nothing left.
    fn of(prefix: &str, after: Option<&'a str>, order: Order) -> Option<Self> {
        let Some(after) = after else {
            return Some(Self::Beginning);
        };
        if after.starts_with(prefix) {
            return Some(Self::After(after));
        }
        let still_ahead = match order {
            Order::Ascending => after < prefix,
            Order::Descending => after > prefix,
        };
        still_ahead.then_some(Self::Beginning)
    }
}

/// Whether a read has to wait for a transaction.
fn is_busy<R>(error: &SdkError<TransactGetItemsError, R>) -> bool {
    matches!(
        error.as_service_error(),
        Some(TransactGetItemsError::TransactionCanceledException(_))
    )
}
