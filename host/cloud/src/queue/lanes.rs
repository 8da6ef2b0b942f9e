//! Groups: a row for each that has an event on its way, from its claim to its settlement.

use std::sync::Arc;

use tidegate_runtime::store::StoreError;

use super::claims::{CLAIM, Claimed, FREE};
use super::messages::Message;
use crate::after::{LaneOf, Letter};
use crate::commit::{Meaning, Refused, When};
use crate::failure;
use crate::items::{Item, number, number_of, text};
use crate::keys::{self, Place, values};
use crate::store::Core;

impl Core {
    /// Claims an event that has a group: where it is the one on its way, or the first and none is.
    pub(super) async fn claim_in_lane(self: &Arc<Self>, message: &Message) -> Result<Claimed, StoreError> {
        let Some(lane) = LaneOf::of(&message.place) else {
            return Ok(Claimed::Spent);
        };
        let on_its_way = self.on_its_way(&lane).await?;
        let may = match on_its_way {
            Some(seq) => seq == message.place.seq,
            None => self
                .first_of(&lane)
                .await?
                .is_none_or(|(seq, _)| seq == message.place.seq),
        };
        if !may {
            return self.not_yet(message, &lane).await;
        }
        let claim = self.stamps.next();
        let mut row = lane.key().item();
        row.insert("seq".into(), number(message.place.seq));
        let free = When::holds(
            "attribute_not_exists(pk) OR seq = :seq",
            values([(":seq", number(message.place.seq))]),
        );
        let actions = [
            self.put(row, free, Meaning::Step, 0)?,
            self.update(
                &message.place.key(),
                CLAIM,
                When::holds(FREE, self.claim_values(claim)),
                Meaning::Step,
            )?,
        ];
        match self.transact(&actions).await {
            Ok(()) => {
                let row = self.row(&message.place.key()).await?.unwrap_or_default();
                self.claimed(message, claim, &row).await
            }
            Err(Refused::Busy(_) | Refused::Behind(_)) => self.why_not(message).await,
            Err(Refused::For(error)) => Err(StoreError::new(error)),
        }
    }

    /// What becomes of a message whose event has others of its group before it: one that is due is told of again when
    /// its turn comes.
    async fn not_yet(self: &Arc<Self>, message: &Message, lane: &LaneOf) -> Result<Claimed, StoreError> {
        let why = self.why_not(message).await?;
        if matches!(why, Claimed::Later(due) if due > self.now()) {
            return Ok(why);
        }
        self.start_lane(lane).await?;
        Ok(Claimed::Spent)
    }

    /// Tells of the first event of a group, where none is on its way.
    pub(crate) async fn start_lane(self: &Arc<Self>, lane: &LaneOf) -> Result<(), StoreError> {
        if self.on_its_way(lane).await?.is_some() {
            return Ok(());
        }
        let Some((seq, due)) = self.first_of(lane).await? else {
            return Ok(());
        };
        let place = Place {
            queue: lane.queue.clone(),
            group: Some(lane.group),
            seq,
        };
        self.send(&[Letter { place, due }]).await
    }

    /// Tells of the event of a group that is on its way, or of the first one.
    pub(super) async fn tell_lane_anew(self: &Arc<Self>, lane: &LaneOf) -> Result<(), StoreError> {
        let Some(seq) = self.on_its_way(lane).await? else {
            return self.start_lane(lane).await;
        };
        let place = Place {
            queue: lane.queue.clone(),
            group: Some(lane.group),
            seq,
        };
        self.send(&[Letter { place, due: None }]).await
    }

    async fn on_its_way(&self, lane: &LaneOf) -> Result<Option<u64>, StoreError> {
        let row = self.row(&lane.key()).await?;
        Ok(row.and_then(|row| number_of(&row, "seq")))
    }

    /// The first event of a group that is due.
    async fn first_of(&self, lane: &LaneOf) -> Result<Option<(u64, Option<u64>)>, StoreError> {
        let (partition, prefix) = keys::events_of(&lane.queue, lane.group);
        let mut start: Option<Item> = None;
        loop {
            let query = self.dynamo.query().table_name(&self.settings.table);
            let query = query
                .key_condition_expression("pk = :p AND begins_with(sk, :s)")
                .filter_expression("attribute_not_exists(due) OR due <= :now")
                .projection_expression("sk, due")
                .set_expression_attribute_values(Some(values([
                    (":p", text(&partition)),
                    (":s", text(&prefix)),
                    (":now", number(self.now())),
                ])))
                .consistent_read(true)
                .limit(FEW)
                .set_exclusive_start_key(start);
            let found = query.send().await.map_err(failure::of("DynamoDB"))?;
            if let Some(row) = found.items().first() {
                return Ok(keys::seq_of(row).map(|seq| (seq, number_of(row, "due"))));
            }
            start = found.last_evaluated_key;
            if start.is_none() {
                return Ok(None);
            }
        }
    }
}

/// Rows that are looked at in one go for one that is due.
const FEW: i32 = 8;
