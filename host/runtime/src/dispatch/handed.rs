//! Deliveries that somebody else claimed: they are handled as those that a dispatcher claims itself.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};

use super::Dispatcher;
use super::batch::{Gathering, Group};
use crate::store::{Delivery, Receipt};

impl Dispatcher {
    /// Handles deliveries, as many at one time as the function takes. What its rate does not take now is given back.
    pub async fn handle_handed(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        let at_once = self.spec.limits.concurrency as usize;
        stream::iter(self.gathered(deliveries))
            .for_each_concurrent(at_once, async |group| {
                let now = self.services.clock.now_ms();
                match self.services.rates.begin(&self.spec, now) {
                    Ok(()) => self.handle_in_turn(group).await,
                    Err(_) => {
                        let receipts: Vec<Receipt> =
                            group.into_iter().map(|delivery| delivery.receipt).collect();
                        self.give_back(&receipts).await;
                    }
                }
            })
            .await;
    }

    /// Batches where the function takes them, else each delivery alone.
    fn gathered(&self, deliveries: Vec<Delivery>) -> Vec<Group> {
        let Some(batch) = &self.spec.batch else {
            return deliveries.into_iter().map(|delivery| vec![delivery]).collect();
        };
        let (mut waiting, mut groups) = (VecDeque::from(deliveries), Vec::new());
        while !waiting.is_empty() {
            let mut gathering = Gathering::new(batch);
            gathering.fill(&mut waiting);
            groups.push(gathering.group);
        }
        groups
    }
}
