//! Claims: from messages to deliveries.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tidegate_runtime::store::{Delivery, Receipt, StoreError};
use tokio::time::Instant;

use super::held::Held;
use super::line::{Line, Next};
use super::messages::{BATCH, Message};
use crate::failure;
use crate::items::{Item, number, number_of, text_of};
use crate::keys::values;
use crate::store::Core;

/// How long a message whose event cannot be read stays away, in seconds.
const UNREADABLE: u64 = 60;

/// What became of a message.
pub(super) enum Claimed {
    /// The event is ours.
    Ours(Box<Delivery>),
    /// The event is gone, or its group will tell of it.
    Spent,
    /// The event is another's, or due, at that time.
    Later(u64),
}

impl Core {
    /// Up to `max` events of a queue.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        queue: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, StoreError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let line = self.queues.line(queue);
        let claimer = line.claimer(max, wait);
        loop {
            let mut changed = std::pin::pin!(line.changed.notified());
            changed.as_mut().enable();
            let (due, next_due) = line.due(self.now());
            if !due.is_empty() {
                let (core, line) = (self.clone(), line.clone());
                tokio::spawn(async move { core.take_in(&line, due).await });
            }
            match line.next(&claimer) {
                Next::Take(deliveries) => return Ok(deliveries),
                Next::Fail(error) => return Err(error),
                Next::Look(look, room, wait) => self.look(&line, look, room, wait),
                Next::Wait => {}
            }
            let nap = next_due.map(|due| Duration::from_millis(due.saturating_sub(self.now()).max(1)));
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(Instant::from_std(claimer.until())) => {}
                () = nap_for(nap) => {}
            }
        }
    }

    /// Looks for messages, whatever becomes of the claim that wants them.
    fn look(self: &Arc<Self>, line: &Arc<Line>, look: u64, room: usize, wait: u64) {
        let (core, line) = (self.clone(), line.clone());
        tokio::spawn(async move {
            let received = core.receive(&line, room, wait).await;
            let found = match received {
                Ok(messages) => {
                    let any = !messages.is_empty();
                    core.take_in(&line, messages).await;
                    Ok(any)
                }
                Err(error) => Err(error),
            };
            line.looked(look, found);
        });
    }

    /// Claims the events that messages name, in their order.
    async fn take_in(self: &Arc<Self>, line: &Arc<Line>, messages: Vec<Message>) {
        let mut spent = Vec::new();
        let claims = stream::iter(messages).map(async |message| {
            let claimed = self.claim_row(&message).await;
            (message, claimed)
        });
        let mut claims = std::pin::pin!(claims.buffered(BATCH));
        while let Some((message, claimed)) = claims.next().await {
            let done = match claimed {
                Ok(Claimed::Ours(delivery)) => {
                    line.arrive(*delivery);
                    Ok(())
                }
                Ok(Claimed::Spent) => {
                    spent.extend(message.handle);
                    Ok(())
                }
                Ok(Claimed::Later(time)) => self.put_off(line, message, time).await,
                Err(error) => {
                    tracing::error!(queue = line.name, %error, "an event cannot be claimed; it comes again");
                    self.hide(line, message.handle.as_deref(), UNREADABLE).await
                }
            };
            // What is not done now is done when the message comes again.
            if let Err(error) = done {
                tracing::warn!(queue = line.name, %error, "a message is not told what became of it");
            }
        }
        if !spent.is_empty()
            && let Err(error) = self.remove(line, spent).await
        {
            tracing::warn!(queue = line.name, %error, "messages of events that are gone are not removed");
        }
    }

    /// Keeps a message that is due soon, and hides one that is due later.
    async fn put_off(&self, line: &Line, message: Message, time: u64) -> Result<(), StoreError> {
        let left = time.saturating_sub(self.now());
        if left < self.settings.visibility.as_millis() as u64 / 2 {
            line.arrive_later(time, message);
            return Ok(());
        }
        self.hide(line, message.handle.as_deref(), left / 1000).await
    }

    pub(super) async fn claim_row(self: &Arc<Self>, message: &Message) -> Result<Claimed, StoreError> {
        if message.place.group.is_some() {
            return self.claim_in_lane(message).await;
        }
        let claim = self.stamps.next();
        let update = self.dynamo.update_item().table_name(&self.settings.table);
        let update = update
            .set_key(Some(message.place.key().item()))
            .update_expression(CLAIM)
            .condition_expression(FREE)
            .set_expression_attribute_values(Some(self.claim_values(claim)))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
        match update.send().await {
            Ok(updated) => {
                self.claimed(message, claim, &updated.attributes.unwrap_or_default())
                    .await
            }
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                self.why_not(message).await
            }
            // A transaction has the row just now.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_transaction_conflict_exception()) =>
            {
                Ok(Claimed::Later(self.now() + 50))
            }
            Err(error) => Err(failure::of("DynamoDB")(error)),
        }
    }

    /// The values of [`CLAIM`] and [`FREE`].
    pub(super) fn claim_values(&self, claim: u64) -> Item {
        let (now, visibility) = (self.now(), self.settings.visibility.as_millis() as u64);
        values([
            (":c", number(claim)),
            (":u", number(now + visibility)),
            (":now", number(now)),
            (":far", number(now + 2 * visibility)),
        ])
    }

    /// Why an event could not be claimed.
    pub(super) async fn why_not(&self, message: &Message) -> Result<Claimed, StoreError> {
        let Some(row) = self.row(&message.place.key()).await? else {
            return Ok(Claimed::Spent);
        };
        let due = number_of::<u64>(&row, "due").unwrap_or_default();
        let held = number_of::<u64>(&row, "held").unwrap_or_default();
        // A moment later than the claim, as the clocks of hosts differ a little.
        Ok(Claimed::Later(due.max(held.saturating_add(1))))
    }

    /// The delivery of an event that was claimed.
    pub(super) async fn claimed(
        &self,
        message: &Message,
        claim: u64,
        row: &Item,
    ) -> Result<Claimed, StoreError> {
        let event = self.bytes_in(row).await?.unwrap_or_default();
        let event = serde_json::from_slice(&event).map_err(StoreError::new)?;
        let place = &message.place;
        self.stamps.saw(place.seq);
        let receipt = Receipt {
            queue: place.queue.clone(),
            seq: place.seq,
            claim,
        };
        let held = Held {
            place: place.clone(),
            claim,
            handle: message.handle.clone(),
            blob: text_of(row, "blob_at").map(str::to_owned),
        };
        self.queues.all_held().insert(receipt.clone(), held);
        Ok(Claimed::Ours(Box::new(Delivery {
            receipt,
            group: place.group,
            event: Arc::new(event),
            attempt: number_of(row, "attempt").unwrap_or(1),
        })))
    }
}

/// Claims a row.
pub(super) const CLAIM: &str = "SET claim = :c, held = :u";
/// The row is there, due, and nobody's. A claim that says to last longer than any does is of a host whose clock is ahead: its
/// message came to us, so it has gone silent.
pub(super) const FREE: &str = "attribute_exists(pk) AND \
                               (attribute_not_exists(held) OR held < :now OR held > :far) AND \
                               (attribute_not_exists(due) OR due <= :now)";

async fn nap_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
