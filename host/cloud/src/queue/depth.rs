//! How full a queue is: its rows are counted up to a bound; beyond it, SQS tells how many messages there are.

use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use tidegate_runtime::store::{Depth, StoreError};

use crate::after::named;
use crate::failure;
use crate::items::{number_of, text};
use crate::keys::{self, EVENTS, SHARDS, values};
use crate::store::Core;

/// Rows of one shard of a queue that are counted; each costs a read.
const COUNTED: usize = 1000;
/// How old a depth may be for those who ask often.
const RECENT: Duration = Duration::from_secs(1);

impl Core {
    /// How full a queue was up to a second ago. Those who ask at one time share one look.
    pub(crate) async fn recent_depth(&self, queue: &str) -> Result<Depth, StoreError> {
        let line = self.queues.line(queue);
        let mut known = line.depth.lock().await;
        if let Some((at, depth)) = *known
            && at.elapsed() < RECENT
        {
            return Ok(depth);
        }
        let depth = self.depth(queue).await?;
        *known = Some((Instant::now(), depth));
        Ok(depth)
    }

    /// Events that wait, are claimed, or are held back. Those of a unit that is not there as a whole count as one.
    pub(crate) async fn depth(&self, queue: &str) -> Result<Depth, StoreError> {
        let mut dues = Vec::new();
        let mut more = false;
        for shard in 0..SHARDS {
            let found = self.dues(&keys::partition(queue, shard)).await?;
            more |= found.len() == COUNTED;
            dues.extend(found);
        }
        if more {
            return self.estimate(queue, dues.len() as u64).await;
        }
        let now = self.now();
        let delayed = dues.iter().filter(|due| due.is_some_and(|due| due > now)).count() as u64;
        Ok(Depth {
            ready: dues.len() as u64 - delayed + self.unfinished(queue).await?,
            delayed,
        })
    }

    /// The times that events are held back until, of up to [`COUNTED`] events.
    async fn dues(&self, partition: &str) -> Result<Vec<Option<u64>>, StoreError> {
        let query = self.dynamo.query().table_name(&self.settings.table);
        let pages = query
            .key_condition_expression("pk = :p AND begins_with(sk, :s)")
            .projection_expression("due")
            .set_expression_attribute_values(Some(values([(":p", text(partition)), (":s", text(EVENTS))])))
            .consistent_read(true)
            .limit(COUNTED as i32)
            .into_paginator()
            .items();
        let (mut rows, mut dues) = (pages.send(), Vec::new());
        while dues.len() < COUNTED
            && let Some(row) = rows.next().await
        {
            dues.push(number_of(&row.map_err(failure::of("DynamoDB"))?, "due"));
        }
        Ok(dues)
    }

    /// What SQS tells of its messages, and no less than was counted: of a group only the first event has a message.
    async fn estimate(&self, queue: &str, counted: u64) -> Result<Depth, StoreError> {
        let url = self.url(&self.queues.line(queue)).await?;
        let ask = self.sqs.get_queue_attributes().queue_url(url);
        let ask = ask.set_attribute_names(Some(vec![
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ]));
        let told = ask.send().await.map_err(failure::of("SQS"))?;
        let told = told.attributes.unwrap_or_default();
        let count = |name| -> u64 {
            let text = told.get(&name).map(String::as_str);
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let ready = count(QueueAttributeName::ApproximateNumberOfMessages)
            + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
        let delayed = count(QueueAttributeName::ApproximateNumberOfMessagesDelayed);
        Ok(Depth {
            ready: ready.max(counted.saturating_sub(delayed)),
            delayed,
        })
    }

    /// Units that have events for a queue and are not there as a whole.
    async fn unfinished(&self, queue: &str) -> Result<u64, StoreError> {
        let mut count = 0;
        for partition in keys::partitions("x") {
            let query = self.dynamo.query().table_name(&self.settings.table);
            let pages = query
                .key_condition_expression("pk = :p")
                .filter_expression("contains(queues, :q)")
                .projection_expression("sk")
                .set_expression_attribute_values(Some(values([
                    (":p", text(&partition)),
                    (":q", text(&named(queue))),
                ])))
                .consistent_read(true)
                .into_paginator()
                .items();
            let rows = pages.send().collect::<Result<Vec<_>, _>>().await;
            count += rows.map_err(failure::of("DynamoDB"))?.len() as u64;
        }
        Ok(count)
    }
}
