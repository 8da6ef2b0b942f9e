//! Work that the platform is handed, where nothing runs by itself: deliveries, and the times when schedules may be due.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::Platform;
use super::fleet::Running;
use super::versions::Versions;
use crate::dispatch::Dispatcher;
use crate::effects::JOIN;
use crate::manifest::queue_of;
use crate::store::{CommitError, Delivery, Receipt, StoreError};

impl Platform {
    /// Handles deliveries to their ends: committed, to be tried again, or dead. What cannot be handled is given back.
    pub async fn handle(&self, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
        let mut queues = BTreeMap::<String, Vec<Delivery>>::new();
        for delivery in deliveries {
            queues
                .entry(delivery.receipt.queue.clone())
                .or_default()
                .push(delivery);
        }
        let handlings =
            queues.into_iter().map(
                async |(queue, deliveries)| match self.dispatcher_of(&queue).await {
                    Ok(Some(dispatcher)) => {
                        dispatcher.handle_handed(deliveries).await;
                        Ok(())
                    }
                    Ok(None) => {
                        tracing::error!(
                            queue,
                            "there is no such version of a function that handles events"
                        );
                        self.give_back(&deliveries).await
                    }
                    Err(error) => {
                        tracing::warn!(queue, %error, "a version is not loaded");
                        self.give_back(&deliveries).await
                    }
                },
            );
        futures::future::join_all(handlings).await.into_iter().collect()
    }

    /// Fires the schedules that are due.
    pub async fn fire_due(&self) -> Result<(), CommitError> {
        let timed = self.fleet().timed();
        self.scheduler.fire_due(&timed).await
    }

    /// Waits until what answers to requests left behind is done: their records and lines are written.
    pub async fn tidied(&self) {
        self.services.tidied().await;
    }

    async fn give_back(&self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        let receipts: Vec<Receipt> = deliveries
            .iter()
            .map(|delivery| delivery.receipt.clone())
            .collect();
        self.services.store.unclaim(&receipts).await
    }

    /// What handles a queue; a version that takes no new events is loaded for those that it has left.
    async fn dispatcher_of(&self, queue: &str) -> Result<Option<Arc<Dispatcher>>, StoreError> {
        if queue == queue_of(JOIN, 0) {
            return Ok(Some(self.joins.clone()));
        }
        if let Some(dispatcher) = self.fleet().dispatcher(queue) {
            return Ok(Some(dispatcher));
        }
        let function = queue.split_once('@').map(|(function, _)| function);
        let versions = Versions::read(self.services.store.as_ref(), function).await?;
        let mut of_function = versions.iter();
        let Some(version) = of_function.find(|version| queue_of(&version.function, version.number) == queue)
        else {
            return Ok(None);
        };
        let function = self.load(version).await.map_err(StoreError::new)?;
        let running = Running::new(&version.app, function, &self.services, &self.sandbox);
        let mut fleet = self.fleet.write().unwrap_or_else(PoisonError::into_inner);
        Ok(fleet.add(running))
    }
}
