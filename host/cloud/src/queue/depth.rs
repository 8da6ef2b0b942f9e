//! How full a queue is: its rows are counted.

use tidegate_runtime::store::{Depth, StoreError};

use crate::after::named;
use crate::failure;
use crate::items::{number_of, text};
use crate::keys::{self, EVENTS, SHARDS, values};
use crate::store::Core;

impl Core {
    /// Events that wait, are claimed, or are held back. Those of a unit that is not there as a whole count as one.
    pub(crate) async fn depth(&self, queue: &str) -> Result<Depth, StoreError> {
        let mut depth = Depth::default();
        for shard in 0..SHARDS {
            let partition = keys::partition(queue, shard);
            let dues = self.dues(&partition).await?;
            let now = self.now();
            let delayed = dues.iter().filter(|due| due.is_some_and(|due| due > now)).count();
            depth.delayed += delayed as u64;
            depth.ready += (dues.len() - delayed) as u64;
        }
        depth.ready += self.unfinished(queue).await?;
        Ok(depth)
    }

    async fn dues(&self, partition: &str) -> Result<Vec<Option<u64>>, StoreError> {
        let query = self.dynamo.query().table_name(&self.settings.table);
        let pages = query
            .key_condition_expression("pk = :p AND begins_with(sk, :s)")
            .projection_expression("due")
            .set_expression_attribute_values(Some(values([(":p", text(partition)), (":s", text(EVENTS))])))
            .consistent_read(true)
            .into_paginator()
            .items();
        let rows = pages.send().collect::<Result<Vec<_>, _>>().await;
        let rows = rows.map_err(failure::of("DynamoDB"))?;
        Ok(rows.iter().map(|row| number_of(row, "due")).collect())
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
