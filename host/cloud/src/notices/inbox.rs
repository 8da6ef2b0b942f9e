//! Queues that S3, SNS or EventBridge sends notices to.

use std::sync::Arc;

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use tidegate_runtime::store::StoreError;

use crate::failure;
use crate::store::{Cloud, Core};

/// Messages of one call.
const BATCH: i32 = 10;
/// How long a call waits for the first message, in seconds: the longest that SQS allows.
const WAIT: i32 = 20;

/// A queue of notices.
pub struct Inbox {
    core: Arc<Core>,
    url: String,
}

/// A message.
#[derive(Debug, Clone)]
pub struct Letter {
    /// What it says.
    pub body: String,
    /// Removes it.
    pub handle: String,
}

impl Cloud {
    /// A queue by its name or its URL; it has to be there.
    pub async fn inbox(&self, queue: &str) -> Result<Inbox, StoreError> {
        let core = self.core().clone();
        if queue.contains("://") {
            let url = queue.to_owned();
            return Ok(Inbox { core, url });
        }
        let found = core.sqs.get_queue_url().queue_name(queue).send().await;
        let url = found.map_err(failure::of("SQS"))?.queue_url;
        let url = url.ok_or_else(|| StoreError(format!("SQS: `{queue}` has no address")))?;
        Ok(Inbox { core, url })
    }
}

impl Inbox {
    /// Waits for messages. They stay hidden for the queue's own visibility timeout, and come again unless they are removed.
    pub async fn receive(&self) -> Result<Vec<Letter>, StoreError> {
        let receive = self.core.sqs.receive_message().queue_url(&self.url);
        let receive = receive.max_number_of_messages(BATCH).wait_time_seconds(WAIT);
        let received = receive.send().await.map_err(failure::of("SQS"))?;
        let messages = received.messages.unwrap_or_default().into_iter();
        let letter = |message: aws_sdk_sqs::types::Message| Letter {
            body: message.body.unwrap_or_default(),
            handle: message.receipt_handle.unwrap_or_default(),
        };
        Ok(messages.map(letter).collect())
    }

    /// Removes messages of one call. One that stays comes again, and is known then.
    pub async fn remove(&self, letters: &[Letter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut delete = self.core.sqs.delete_message_batch().queue_url(&self.url);
        for (nth, letter) in letters.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(nth.to_string());
            let entry = entry.receipt_handle(&letter.handle);
            delete = delete.entries(entry.build().map_err(StoreError::new)?);
        }
        delete.send().await.map(drop).map_err(failure::of("SQS"))
    }
}
