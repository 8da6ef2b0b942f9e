//! The sweep: finishes what dead hosts left, and removes bytes and queues that nobody needs any more.

use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::store::{CommitError, StoreError};

use crate::failure;
use crate::items::{Item, text, text_of};
use crate::keys::{self, Key, values};
use crate::store::Core;

/// Between two looks at the outbox.
const LOOK: Duration = Duration::from_secs(5);
/// What lies in the outbox for this long, its own host has left.
const LEFT_MS: u64 = 10_000;
/// Looks between two rounds for bytes and queues that nobody needs.
const ROUND: u32 = 120;
/// What is staged and not published for this long never will be.
const KEEP_STAGED_MS: u64 = 24 * 3600 * 1000;
/// Rows of one look at one partition.
const SOME: i32 = 100;

impl Core {
    /// Looks again and again, as long as the store is open.
    pub(crate) async fn sweep_for_ever(self: Arc<Self>) {
        for look in 1_u32.. {
            tokio::time::sleep(LOOK).await;
            if self.is_held().await.unwrap_or(true) {
                continue;
            }
            if let Err(error) = self.sweep_outbox(self.now().saturating_sub(LEFT_MS)).await {
                tracing::warn!(%error, "the outbox is not swept");
            }
            if look.is_multiple_of(ROUND)
                && let Err(error) = self.sweep_the_rest().await
            {
                tracing::warn!(%error, "bytes or queues that nobody needs stay for now");
            }
        }
    }

    /// Looks once at all there is.
    pub(crate) async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        self.pass().await?;
        self.sweep_outbox(self.now().saturating_sub(LEFT_MS)).await?;
        self.sweep_the_rest().await
    }

    /// Finishes units whose transactions are older than `time`.
    async fn sweep_outbox(self: &Arc<Self>, time: u64) -> Result<(), StoreError> {
        let before = ulid::Ulid::from_parts(time, 0).to_string();
        for partition in keys::partitions("x") {
            for row in self.rows_before(&partition, &before).await? {
                let unit = text_of(&row, "sk").unwrap_or_default();
                match self.finish_for_another(&row).await {
                    Ok(()) => tracing::info!(unit, "finished a unit that its host had left"),
                    // The next one may do better: none holds up the others.
                    Err(error) => {
                        tracing::warn!(unit, %error, "a unit that its host left is not finished yet")
                    }
                }
            }
        }
        Ok(())
    }

    async fn finish_for_another(self: &Arc<Self>, row: &Item) -> Result<(), CommitError> {
        let mut after = self.read_after(row).await?;
        self.carry_on(&mut after).await?;
        Ok(self.finish(&after).await?)
    }

    /// Removes what nobody needs any more.
    async fn sweep_the_rest(self: &Arc<Self>) -> Result<(), StoreError> {
        self.sweep_bytes().await?;
        self.sweep_queues().await
    }

    /// Removes what was staged and not published, what was replaced, and large values that no key has any more.
    async fn sweep_bytes(&self) -> Result<(), StoreError> {
        let now = self.now();
        for partition in keys::partitions("g") {
            for row in self.rows_before(&partition, &format!("{now:020}")).await? {
                let sk = text_of(&row, "sk").unwrap_or_default();
                let blob = sk.split_once('#').map_or("", |(_, blob)| blob);
                self.remove_with(blob, &row).await?;
            }
        }
        let old = ulid::Ulid::from_parts(now.saturating_sub(KEEP_STAGED_MS), 0).to_string();
        for partition in keys::partitions("s") {
            for row in self.rows_before(&partition, &old).await? {
                let blob = text_of(&row, "sk").unwrap_or_default();
                self.remove_with(blob, &row).await?;
            }
        }
        for partition in keys::partitions("v") {
            for row in self.rows_before(&partition, &old).await? {
                self.sweep_large(&row).await?;
            }
        }
        Ok(())
    }

    /// Removes a large value, where its key has another by now.
    async fn sweep_large(&self, row: &Item) -> Result<(), StoreError> {
        let part = |name| text_of(row, name).unwrap_or_default().to_owned();
        let (blob, of) = (
            part("sk"),
            Key {
                pk: part("of"),
                sk: part("at"),
            },
        );
        let present = self.row(&of).await?;
        match present.as_ref().and_then(|present| text_of(present, "blob_at")) == Some(&blob) {
            true => Ok(()),
            false => self.remove_with(&blob, row).await,
        }
    }

    /// Removes a blob, and then the row by which it was found.
    async fn remove_with(&self, blob: &str, row: &Item) -> Result<(), StoreError> {
        self.blobs.remove(blob).await?;
        let part = |name| text_of(row, name).unwrap_or_default().to_owned();
        self.remove_row(&Key {
            pk: part("pk"),
            sk: part("sk"),
        })
        .await
    }

    /// Removes bytes that were put into the bucket for a row that is gone.
    pub(crate) async fn forget_staged(&self, blob: &str) -> Result<(), StoreError> {
        self.blobs.remove(blob).await?;
        self.remove_row(&keys::staged(blob)).await
    }

    pub(crate) async fn remove_row(&self, key: &Key) -> Result<(), StoreError> {
        let delete = self.dynamo.delete_item().table_name(&self.settings.table);
        let deleted = delete.set_key(Some(key.item())).send().await;
        deleted.map(drop).map_err(failure::of("DynamoDB"))
    }

    pub(crate) async fn rows_before(&self, partition: &str, sk: &str) -> Result<Vec<Item>, StoreError> {
        let query = self.dynamo.query().table_name(&self.settings.table);
        let query = query
            .key_condition_expression("pk = :p AND sk < :s")
            .set_expression_attribute_values(Some(values([(":p", text(partition)), (":s", text(sk))])))
            .consistent_read(true)
            .limit(SOME);
        let found = query.send().await.map_err(failure::of("DynamoDB"))?;
        Ok(found.items.unwrap_or_default())
    }
}
