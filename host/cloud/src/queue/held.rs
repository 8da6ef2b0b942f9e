//! What this host holds: kept from the others while it lives, given back, or let go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use tidegate_runtime::store::{Receipt, StoreError};

use super::line::Line;
use crate::commit::Prepared;
use crate::failure;
use crate::items::number;
use crate::keys::{Place, values};
use crate::store::Core;

/// Rows that are written at one time.
const AT_ONCE: usize = 16;
/// How often in the time of a claim it is renewed.
const RENEWALS: u32 = 3;

/// A claimed event.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) place: Place,
    pub(crate) claim: u64,
    /// By which SQS knows this receipt of the message; none where somebody else tells it what became of it.
    pub(super) handle: Option<String>,
    /// Where the event lies, where it is large.
    pub(crate) blob: Option<String>,
}

impl Held {
    fn receipt(&self) -> Receipt {
        Receipt {
            queue: self.place.queue.clone(),
            seq: self.place.seq,
            claim: self.claim,
        }
    }
}

impl Core {
    /// Renews claims and messages as long as the store is open, and gives back what nobody wanted.
    pub(crate) async fn keep_holding(self: Arc<Self>) {
        let pause = self.settings.visibility / RENEWALS;
        loop {
            tokio::time::sleep(pause).await;
            for line in self.queues.lines() {
                let unwanted = line.unwanted(pause);
                let receipts: Vec<Receipt> = unwanted.into_iter().map(|delivery| delivery.receipt).collect();
                self.tell_if_untold(&line).await;
                if let Err(error) = self.unclaim(&receipts).await {
                    tracing::warn!(queue = line.name, %error, "events that nobody wanted are not given back yet");
                }
            }
            let held: Vec<Held> = self.queues.all_held().values().cloned().collect();
            stream::iter(held)
                .for_each_concurrent(AT_ONCE, async |held| self.renew(&held).await)
                .await;
        }
    }

    /// Tells of the events of a queue that this host made anew.
    async fn tell_if_untold(self: &Arc<Self>, line: &Line) {
        if line.untold.swap(false, Ordering::AcqRel)
            && let Err(error) = self.tell_anew(&line.name).await
        {
            tracing::warn!(queue = line.name, %error, "not all events of a new queue are told of yet");
            line.untold.store(true, Ordering::Release);
        }
    }

    async fn renew(&self, held: &Held) {
        let until = self.now() + self.settings.visibility.as_millis() as u64;
        let renewed = self.change(held, "SET held = :u", Some(until)).await;
        match renewed {
            Ok(true) => {}
            Ok(false) => {
                self.queues.all_held().remove(&held.receipt());
                return;
            }
            Err(error) => tracing::warn!(queue = held.place.queue, %error, "a claim is not renewed"),
        }
        let line = self.queues.line(&held.place.queue);
        let seconds = self.settings.visibility.as_secs();
        if let Err(error) = self.hide(&line, held.handle.as_deref(), seconds).await {
            tracing::warn!(queue = held.place.queue, %error, "a message is not kept from other hosts");
        }
    }

    /// Changes the row of a claimed event; whether it is still claimed.
    async fn change(&self, held: &Held, expression: &str, until: Option<u64>) -> Result<bool, StoreError> {
        let mut values = values([(":c", number(held.claim))]);
        values.extend(until.map(|until| (":u".to_owned(), number(until))));
        let update = self.dynamo.update_item().table_name(&self.settings.table);
        let update = update
            .set_key(Some(held.place.key().item()))
            .update_expression(expression)
            .condition_expression("claim = :c")
            .set_expression_attribute_values(Some(values));
        match update.send().await {
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

    /// Gives events back unhandled.
    pub(crate) async fn unclaim(&self, receipts: &[Receipt]) -> Result<(), StoreError> {
        for receipt in receipts {
            let Some(held) = self.queues.held(receipt) else {
                continue;
            };
            let given = self.change(&held, "REMOVE claim, held", None).await?;
            self.queues.all_held().remove(receipt);
            if given {
                let line = self.queues.line(&held.place.queue);
                self.hide(&line, held.handle.as_deref(), 0).await?;
            }
        }
        Ok(())
    }

    /// Gives everything back.
    pub(crate) async fn give_back_all(&self) {
        let receipts: Vec<Receipt> = self.queues.all_held().keys().cloned().collect();
        if let Err(error) = self.unclaim(&receipts).await {
            tracing::warn!(%error, "some events come to other hosts when their time is up");
        }
    }

    /// Lets go what a unit settled or deferred: its messages are removed, or come again when they are due.
    pub(crate) fn let_go(self: &Arc<Self>, prepared: &Prepared) {
        for held in &prepared.settle {
            self.queues.all_held().remove(&held.receipt());
        }
        let mut deferred = Vec::new();
        for (held, deferral) in &prepared.defer {
            self.queues.all_held().remove(&held.receipt());
            deferred.push((held.clone(), deferral.not_before));
        }
        deferred.retain(|(held, _)| held.handle.is_some());
        let settled = prepared.settle.iter().filter(|held| held.handle.is_some());
        let settled: Vec<Held> = settled.cloned().collect();
        if settled.is_empty() && deferred.is_empty() {
            return;
        }
        let core = self.clone();
        tokio::spawn(async move {
            let told = core.tell_messages(settled, deferred).await;
            if let Err(error) = told {
                tracing::warn!(%error, "messages of events that are settled or deferred come again by themselves");
            }
        });
    }

    async fn tell_messages(
        self: &Arc<Self>,
        settled: Vec<Held>,
        deferred: Vec<(Held, u64)>,
    ) -> Result<(), StoreError> {
        let mut queues = std::collections::BTreeMap::<String, Vec<String>>::new();
        for held in settled {
            queues.entry(held.place.queue).or_default().extend(held.handle);
        }
        for (queue, handles) in queues {
            self.remove(&self.queues.line(&queue), handles).await?;
        }
        for (held, due) in deferred {
            let left = Duration::from_millis(due.saturating_sub(self.now()));
            let line = self.queues.line(&held.place.queue);
            self.hide(&line, held.handle.as_deref(), left.as_secs()).await?;
        }
        Ok(())
    }
}
