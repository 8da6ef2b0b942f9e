//! Queues that nobody takes from: those of versions that have drained. After a while they are removed from SQS, if they are
//! still empty.
//!
//! A host that uses one again takes its row away, and so does the host that removes it: whoever is first decides. What
//! is removed all the same while somebody uses it is made anew, with a message for every event ([`super::anew`]).

use std::sync::Arc;

use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use tidegate_runtime::store::{Depth, StoreError};

use crate::failure;
use crate::items::{Item, number, number_of, text_of};
use crate::keys::{self, Key, values};
use crate::store::Core;

/// After every name of a queue.
const LAST: &str = "\u{10FFFF}";

impl Core {
    /// Notes that nobody takes from a queue for now.
    pub(crate) async fn retire(&self, queue: &str) -> Result<(), StoreError> {
        if self.intake_of(queue).is_some() {
            return Ok(());
        }
        // Whoever uses it again has to look for it.
        *self.queues.line(queue).url.lock().await = None;
        let put = self.dynamo.put_item().table_name(&self.settings.table);
        let put = put
            .set_item(Some(keys::retired(queue).item()))
            .item("at", number(self.now()));
        put.send().await.map(drop).map_err(failure::of("DynamoDB"))
    }

    /// Notes that somebody uses a queue.
    pub(super) async fn revive(&self, queue: &str) -> Result<(), StoreError> {
        self.remove_row(&keys::retired(queue)).await
    }

    /// Removes queues from SQS that nobody takes from, and that are empty.
    pub(crate) async fn sweep_queues(self: &Arc<Self>) -> Result<(), StoreError> {
        let kept = self.settings.keep_queues.as_millis() as u64;
        let before = self.now().saturating_sub(kept);
        for partition in keys::partitions("r") {
            for row in self.rows_before(&partition, LAST).await? {
                let at = number_of(&row, "at").filter(|at| *at <= before);
                if let Some(at) = at {
                    self.sweep_queue(&row, at).await?;
                }
            }
        }
        Ok(())
    }

    async fn sweep_queue(&self, row: &Item, at: u64) -> Result<(), StoreError> {
        let queue = text_of(row, "sk").unwrap_or_default();
        let queue = queue.strip_prefix('=').unwrap_or(queue);
        let is_empty = self.depth(queue).await? == Depth::default();
        if !is_empty || !self.take_row(&keys::retired(queue), at).await? {
            return Ok(());
        }
        self.remove_queue(&self.name_of(queue)).await?;
        tracing::info!(queue, "removed a queue that nobody takes from");
        Ok(())
    }

    /// Removes the row of a queue, as it was at that time; whether it was.
    async fn take_row(&self, key: &Key, at: u64) -> Result<bool, StoreError> {
        let delete = self.dynamo.delete_item().table_name(&self.settings.table);
        let delete = delete
            .set_key(Some(key.item()))
            .condition_expression("#at = :at")
            .expression_attribute_names("#at", "at")
            .set_expression_attribute_values(Some(values([(":at", number(at))])));
        match delete.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(failure::of("DynamoDB")(error)),
        }
    }

    /// Removes a queue from SQS; one that is gone is no failure.
    async fn remove_queue(&self, name: &str) -> Result<(), StoreError> {
        let url = match self.sqs.get_queue_url().queue_name(name).send().await {
            Ok(found) => found.queue_url,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetQueueUrlError::is_queue_does_not_exist) =>
            {
                return Ok(());
            }
            Err(error) => return Err(failure::of("SQS")(error)),
        };
        let removed = self.sqs.delete_queue().set_queue_url(url).send().await;
        removed.map(drop).map_err(failure::of("SQS"))
    }
}
