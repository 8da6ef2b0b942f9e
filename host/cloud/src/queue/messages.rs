//! Messages in SQS: each names the place of an event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, QueueAttributeName, SendMessageBatchRequestEntry};
use tidegate_runtime::store::StoreError;

use super::anew::failed;
use super::line::Line;
use crate::after::Letter;
use crate::failure;
use crate::keys::Place;
use crate::store::Core;

/// Messages of one call.
pub(super) const BATCH: usize = 10;
/// How long SQS keeps a message, in seconds: its longest.
const RETENTION: u32 = 14 * 24 * 3600;
/// The longest delay of SQS, in seconds. What is due later is held back again when it comes.
const LONGEST_DELAY: u64 = 15 * 60;
/// The longest time that SQS hides a message, in seconds.
const LONGEST_HIDING: u64 = 12 * 3600;
/// Characters of a queue's name that are kept in its name in SQS, which takes 80.
const READABLE: usize = 30;

/// A message that was received.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) place: Place,
    /// None where somebody else received it, and removes it.
    pub(super) handle: Option<String>,
}

impl Core {
    /// Tells of events, in their order for each queue.
    pub(crate) async fn send(self: &Arc<Self>, letters: &[Letter]) -> Result<(), StoreError> {
        let mut queues: BTreeMap<&str, Vec<Letter>> = BTreeMap::new();
        for letter in letters {
            queues
                .entry(&letter.place.queue)
                .or_default()
                .push(letter.clone());
        }
        for (queue, letters) in queues {
            let (core, line) = (self.clone(), self.queues.line(queue));
            let of = line.clone();
            let send = move |letters| {
                let (core, line) = (core.clone(), of.clone());
                Box::pin(async move { core.send_some(&line, letters).await }) as _
            };
            line.letters.send(letters, BATCH, send).await?;
        }
        Ok(())
    }

    async fn send_some(&self, line: &Line, letters: Vec<Letter>) -> Result<(), StoreError> {
        let (url, now) = (self.url(line).await?, self.now());
        let mut send = self.sqs.send_message_batch().queue_url(url);
        for (nth, letter) in letters.iter().enumerate() {
            let body = serde_json::to_string(&letter.place).map_err(StoreError::new)?;
            let delay = letter.due.unwrap_or_default().saturating_sub(now) / 1000;
            let entry = SendMessageBatchRequestEntry::builder().id(nth.to_string());
            let entry = entry
                .message_body(body)
                .delay_seconds(delay.min(LONGEST_DELAY) as i32);
            send = send.entries(entry.build().map_err(StoreError::new)?);
        }
        let sent = match send.send().await {
            Ok(sent) => sent,
            Err(error) => return Err(failed(line, error).await),
        };
        match sent.failed().first() {
            None => Ok(()),
            Some(left) => Err(StoreError(format!(
                "SQS: {} of {} messages are not sent: {}",
                sent.failed().len(),
                letters.len(),
                left.message().unwrap_or(left.code())
            ))),
        }
    }

    /// Receives up to a batch; waits so many seconds for the first.
    pub(super) async fn receive(
        self: &Arc<Self>,
        line: &Arc<Line>,
        room: usize,
        wait: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let url = self.url(line).await?;
        let _turn = self.queues.polls.acquire().await.map_err(StoreError::new)?;
        let receive = self.sqs.receive_message().queue_url(&url);
        let receive = receive
            .max_number_of_messages(room.min(BATCH) as i32)
            .visibility_timeout(self.settings.visibility.as_secs() as i32)
            .wait_time_seconds(wait as i32);
        let received = match receive.send().await {
            Ok(received) => received,
            Err(error) => return Err(failed(line, error).await),
        };
        let mut messages = Vec::new();
        for message in received.messages.unwrap_or_default() {
            let handle = message.receipt_handle.unwrap_or_default();
            match serde_json::from_str(message.body.as_deref().unwrap_or_default()) {
                Ok(place) => messages.push(Message {
                    place,
                    handle: Some(handle),
                }),
                Err(error) => {
                    tracing::error!(queue = line.name, %error, "a message that is none of ours is removed");
                    self.remove(line, vec![handle]).await?;
                }
            }
        }
        Ok(messages)
    }

    /// Removes messages.
    pub(super) async fn remove(
        self: &Arc<Self>,
        line: &Arc<Line>,
        handles: Vec<String>,
    ) -> Result<(), StoreError> {
        let (core, of) = (self.clone(), line.clone());
        let remove = move |handles| {
            let (core, line) = (core.clone(), of.clone());
            Box::pin(async move { core.remove_some(&line, handles).await }) as _
        };
        line.spent.send(handles, BATCH, remove).await
    }

    async fn remove_some(&self, line: &Line, handles: Vec<String>) -> Result<(), StoreError> {
        let mut delete = self.sqs.delete_message_batch().queue_url(self.url(line).await?);
        for (nth, handle) in handles.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(nth.to_string());
            let entry = entry.receipt_handle(handle);
            delete = delete.entries(entry.build().map_err(StoreError::new)?);
        }
        // One that is not removed comes again, and finds its event gone.
        delete.send().await.map(drop).map_err(failure::of("SQS"))
    }

    /// Hides a message for so many seconds from now on.
    pub(super) async fn hide(
        &self,
        line: &Line,
        handle: Option<&str>,
        seconds: u64,
    ) -> Result<(), StoreError> {
        let Some(handle) = handle else { return Ok(()) };
        let url = self.url(line).await?;
        let change = self.sqs.change_message_visibility().queue_url(url);
        let change = change
            .receipt_handle(handle)
            .visibility_timeout(seconds.min(LONGEST_HIDING) as i32);
        change.send().await.map(drop).map_err(failure::of("SQS"))
    }

    /// Where SQS has a queue, which is made where it is missing.
    pub(super) async fn url(&self, line: &Line) -> Result<String, StoreError> {
        let mut known = line.url.lock().await;
        if let Some(url) = &*known {
            return Ok(url.clone());
        }
        self.revive(&line.name).await?;
        let name = self.name_of(&line.name);
        let found = match self.sqs.get_queue_url().queue_name(&name).send().await {
            Ok(found) => found.queue_url,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetQueueUrlError::is_queue_does_not_exist) =>
            {
                let make = self.sqs.create_queue().queue_name(&name);
                let make = make.attributes(QueueAttributeName::MessageRetentionPeriod, RETENTION.to_string());
                let made = make.send().await.map_err(failure::of("SQS"))?;
                line.untold.store(true, Ordering::Release);
                made.queue_url
            }
            Err(error) => return Err(failure::of("SQS")(error)),
        };
        let url = found.ok_or_else(|| StoreError(format!("SQS: `{name}` has no address")))?;
        Ok(known.insert(url).clone())
    }

    /// The queue of SQS that tells of the events of all functions, where this one is of a function: such queues are called by
    /// their versions, and jobs are leased by hosts.
    pub(super) fn intake_of(&self, queue: &str) -> Option<&str> {
        self.settings.intake.as_deref().filter(|_| queue.contains('@'))
    }

    /// The name of a queue in SQS: the one that all functions share, else what of it may be in one, and a digest of all
    /// of it.
    pub(super) fn name_of(&self, queue: &str) -> String {
        if let Some(intake) = self.intake_of(queue) {
            return intake.to_owned();
        }
        let allowed = |c: char| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        };
        let readable: String = queue.chars().take(READABLE).map(allowed).collect();
        let digest = blake3::hash(queue.as_bytes()).to_hex();
        let digest = digest.get(..8).unwrap_or_default();
        format!("{}{readable}-{digest}", self.settings.queues)
    }
}
