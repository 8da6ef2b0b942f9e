//! Queues that SQS does not have any more: they are made anew, with a message for every event that may be handled.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use tidegate_runtime::store::StoreError;

use super::line::Line;
use crate::after::{LaneOf, Letter};
use crate::failure;
use crate::items::{number_of, text};
use crate::keys::{self, EVENTS, Place, SHARDS, values};
use crate::store::Core;

/// How SQS says that there is no such queue, by its two protocols.
const GONE: [&str; 2] = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"];

/// A call of a queue that failed. Where the queue is gone, the next call looks for it, and makes it where it is missing.
pub(super) async fn failed<E, R>(line: &Line, error: SdkError<E, R>) -> StoreError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if error.code().is_some_and(|code| GONE.contains(&code)) {
        tracing::warn!(
            queue = line.name,
            "SQS has no such queue any more; it is made anew"
        );
        *line.url.lock().await = None;
    }
    failure::of("SQS")(error)
}

impl Core {
    /// Sends a message for every event of a queue that may be handled, as the ones that were sent are lost.
    pub(crate) async fn tell_anew(self: &Arc<Self>, queue: &str) -> Result<(), StoreError> {
        let mut lanes = BTreeSet::new();
        for shard in 0..SHARDS {
            let query = self.dynamo.query().table_name(&self.settings.table);
            let of = values([(":p", text(&keys::partition(queue, shard))), (":s", text(EVENTS))]);
            let pages = query
                .key_condition_expression("pk = :p AND begins_with(sk, :s)")
                .projection_expression("sk, due")
                .set_expression_attribute_values(Some(of))
                .consistent_read(true)
                .into_paginator();
            let mut pages = pages.send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(failure::of("DynamoDB"))?;
                let letters = page.items().iter().filter_map(|row| {
                    let (place, due) = (Place::of_row(queue, row)?, number_of(row, "due"));
                    Some(Letter { place, due })
                });
                let (in_lanes, alone): (Vec<_>, Vec<_>) =
                    letters.partition(|letter| letter.place.group.is_some());
                lanes.extend(in_lanes.iter().filter_map(|letter| LaneOf::of(&letter.place)));
                self.send(&alone).await?;
            }
        }
        for lane in lanes {
            self.tell_lane_anew(&lane).await?;
        }
        Ok(())
    }
}
