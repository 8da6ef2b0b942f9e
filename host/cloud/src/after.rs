//! What follows a transaction: rows that it did not take in, counts that came to zero, messages that tell of events.
//!
//! The outbox has a row of it from the transaction on until all is done. Whoever does it may end anywhere and another
//! do it again: rows are written once, as each step counts itself; a count ends once, as it is deleted where it is
//! zero; and a message that comes twice finds its event claimed or gone.

use std::sync::Arc;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::{CommitError, Group, StoreError};

use crate::commit::{Action, FULL, LARGEST, Meaning, Prepared, Refused, Row, When, Zero};
use crate::failure;
use crate::items::{Item, number, number_of, text_of};
use crate::keys::{self, Key, Place, hex, values};
use crate::store::{Core, Patience};
use crate::values::Stored;

/// Rows that one call removes.
const ROWS: usize = 25;

/// What is to be done after a unit's transaction.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct After {
    /// The unit, which names the row.
    #[serde(skip)]
    pub(crate) unit: String,
    /// The version of what it writes.
    pub(crate) stamp: u64,
    /// Rows that are written already.
    #[serde(skip)]
    done: usize,
    /// Where this itself lies in the bucket.
    #[serde(skip)]
    blob: Option<String>,
    pub(crate) rest: Vec<Row>,
    pub(crate) zeros: Vec<Zero>,
    pub(crate) lanes: Vec<LaneOf>,
    pub(crate) letters: Vec<Letter>,
}

/// A group of a queue whose next event may have to be told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LaneOf {
    pub(crate) queue: String,
    #[serde(with = "hex")]
    pub(crate) group: Group,
}

impl LaneOf {
    /// The lane of a place; none where it is in none.
    pub(crate) fn of(place: &Place) -> Option<Self> {
        place.group.map(|group| Self {
            queue: place.queue.clone(),
            group,
        })
    }

    /// The row that says who is on its way.
    pub(crate) fn key(&self) -> Key {
        keys::lane(&self.queue, self.group)
    }
}

/// A message to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) place: Place,
    pub(crate) due: Option<u64>,
}

impl After {
    pub(crate) fn new(unit: String, stamp: u64) -> Self {
        Self {
            unit,
            stamp,
            done: 0,
            blob: None,
            rest: Vec::new(),
            zeros: Vec::new(),
            lanes: Vec::new(),
            letters: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.zeros.is_empty() && self.lanes.is_empty() && self.letters.is_empty()
    }

    fn key(&self) -> Key {
        keys::outbox(&self.unit)
    }
}

impl Core {
    /// What puts the row into the outbox.
    pub(crate) async fn outbox_action(&self, after: &mut After) -> Result<Action, StoreError> {
        let text = serde_json::to_vec(after).map_err(StoreError::new)?;
        let body = self.keep(text.into()).await?;
        let mut row = after.key().item();
        row.extend([body.attribute(), ("done".into(), number(0))]);
        let mut queues: Vec<String> = after
            .rest
            .iter()
            .filter_map(Row::queue)
            .map(str::to_owned)
            .collect();
        queues.sort();
        queues.dedup();
        if !queues.is_empty() {
            let queues = aws_sdk_dynamodb::types::AttributeValue::Ss(
                queues.iter().map(|queue| named(queue)).collect(),
            );
            row.insert("queues".into(), queues);
        }
        if let Stored::Blob(name) = &body {
            after.blob = Some(name.clone());
        }
        self.put(row, When::default(), Meaning::Free, body.size())
    }

    /// Reads a row of the outbox.
    pub(crate) async fn read_after(&self, row: &Item) -> Result<After, StoreError> {
        let body = self.bytes_in(row).await?.unwrap_or_default();
        let mut after: After = serde_json::from_slice(&body).map_err(StoreError::new)?;
        after.unit = text_of(row, "sk").unwrap_or_default().to_owned();
        after.blob = text_of(row, "blob_at").map(str::to_owned);
        after.done = number_of(row, "done").unwrap_or_default();
        Ok(after)
    }

    /// Writes the rows that the transaction did not take in.
    pub(crate) async fn carry_on(&self, after: &mut After) -> Result<(), CommitError> {
        let mut patience = Patience::new();
        while after.done < after.rest.len() {
            let (mut actions, to) = self.step(after)?;
            let mut refused = self.transact(&actions).await;
            // What a later unit wrote stays as it is.
            while let Err(Refused::Behind(nth)) = refused {
                actions.remove(nth);
                refused = self.transact(&actions).await;
            }
            match refused {
                Ok(()) => after.done = to,
                Err(Refused::For(error)) => return Err(error),
                Err(Refused::Busy(busy)) => {
                    if !patience.wait().await {
                        return Err(busy.into());
                    }
                    let row = self.row(&after.key()).await?;
                    // Another host may have taken it over.
                    after.done = row
                        .map_or(Some(after.rest.len()), |row| number_of(&row, "done"))
                        .unwrap_or(after.done);
                }
                Err(Refused::Behind(_)) => {}
            }
        }
        Ok(())
    }

    /// The next transaction, and how many rows are written then.
    fn step(&self, after: &After) -> Result<(Vec<Action>, usize), StoreError> {
        let mut to = after.done;
        let (mut actions, mut size) = (Vec::new(), 0);
        for row in after.rest.iter().skip(after.done) {
            let more = self.actions_of(row, after.stamp)?;
            let larger: usize = size + more.iter().map(|action| action.size).sum::<usize>();
            if to > after.done && (actions.len() + more.len() >= FULL || larger > LARGEST) {
                break;
            }
            size = larger;
            actions.extend(more);
            to += 1;
        }
        let values = values([(":from", number(after.done)), (":to", number(to))]);
        let count = self.update(
            &after.key(),
            "SET done = :to",
            When::holds("done = :from", values),
            Meaning::Step,
        )?;
        actions.push(count);
        Ok((actions, to))
    }

    /// Looks at counts, sends messages, and takes the row out of the outbox.
    pub(crate) async fn finish(self: &Arc<Self>, after: &After) -> Result<(), StoreError> {
        for zero in &after.zeros {
            self.end_at_zero(zero).await?;
        }
        self.send(&after.letters).await?;
        for lane in &after.lanes {
            self.start_lane(lane).await?;
        }
        self.take_out(after.key()).await?;
        match &after.blob {
            Some(blob) => self.forget_staged(blob).await,
            None => Ok(()),
        }
    }

    /// Removes a row of the outbox, together with those of other units.
    async fn take_out(self: &Arc<Self>, key: Key) -> Result<(), StoreError> {
        let core = self.clone();
        let remove = move |keys| {
            let core = core.clone();
            Box::pin(async move { core.remove_rows(keys).await }) as _
        };
        self.finished.send(vec![key], ROWS, remove).await
    }

    async fn remove_rows(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let deletes = keys.iter().map(|key| {
            let delete = DeleteRequest::builder().set_key(Some(key.item())).build()?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        });
        let deletes: Vec<_> = deletes
            .collect::<Result<_, BuildError>>()
            .map_err(StoreError::new)?;
        let write = self.dynamo.batch_write_item();
        let write = write.request_items(&self.settings.table, deletes);
        let written = write.send().await.map_err(failure::of("DynamoDB"))?;
        match written.unprocessed_items.is_none_or(|left| left.is_empty()) {
            true => Ok(()),
            // They are looked at once more by the sweep, which finds nothing to do.
            false => Err(StoreError(
                "DynamoDB: not all rows of the outbox are removed".into(),
            )),
        }
    }

    /// Ends a count that is zero, and lets its event enter: once, however many see it.
    async fn end_at_zero(self: &Arc<Self>, zero: &Zero) -> Result<(), StoreError> {
        let key = keys::state(&zero.table, &zero.key)?;
        let row = self.row(&key).await?;
        if row.and_then(|row| number_of::<i64>(&row, "n")) != Some(0) {
            return Ok(());
        }
        let prepared = Prepared {
            ends: Some(key),
            events: vec![zero.at_zero.clone()],
            ..Prepared::default()
        };
        match self.commit_prepared(&prepared).await {
            Err(CommitError::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// A queue's name in a set of texts, which takes no empty ones.
pub(crate) fn named(queue: &str) -> String {
    format!("={queue}")
}
