//! One transaction, and why it was refused.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::CancellationReason;
use tidegate_runtime::store::{CommitError, StoreError};

use super::{Action, Meaning};
use crate::failure;
use crate::items::{Item, number_of};
use crate::store::Core;

/// Why a transaction changed nothing.
#[derive(Debug)]
pub(crate) enum Refused {
    /// For good.
    For(CommitError),
    /// Others were in the way: it may go through when everything is read again.
    Busy(StoreError),
    /// The row of this action was written by a later unit.
    Behind(usize),
}

impl Core {
    /// Does all of it, or nothing.
    pub(crate) async fn transact(&self, actions: &[Action]) -> Result<(), Refused> {
        if actions.is_empty() {
            return Ok(());
        }
        // The client gives the call a token of its own, by which its tries count as one.
        let items = actions.iter().map(|action| action.item.clone()).collect();
        let sent = self
            .dynamo
            .transact_write_items()
            .set_transact_items(Some(items))
            .send()
            .await;
        let Err(error) = sent else { return Ok(()) };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
            error.as_service_error()
        {
            return Err(self.judge(actions, cancelled.cancellation_reasons()));
        }
        Err(Refused::For(failure::of("DynamoDB")(error).into()))
    }

    /// The first refusal for good, or else that somebody was in the way.
    fn judge(&self, actions: &[Action], reasons: &[CancellationReason]) -> Refused {
        let mut passing = None;
        for (nth, (action, reason)) in actions.iter().zip(reasons).enumerate() {
            let refused = match reason.code() {
                None | Some("None") => continue,
                Some("ConditionalCheckFailed") => self.refused(nth, &action.meaning, reason.item()),
                Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded") => {
                    let why = reason.message().unwrap_or("other transactions are in the way");
                    Refused::Busy(StoreError(format!("DynamoDB: {why}")))
                }
                Some(code) => {
                    let why = reason.message().unwrap_or_default();
                    Refused::For(StoreError(format!("DynamoDB: {code}: {why}")).into())
                }
            };
            if let Refused::For(_) = refused {
                return refused;
            }
            passing.get_or_insert(refused);
        }
        passing.unwrap_or_else(|| Refused::Busy(StoreError("DynamoDB: cancelled without a reason".into())))
    }

    fn refused(&self, nth: usize, meaning: &Meaning, found: Option<&Item>) -> Refused {
        let changed = || Refused::Busy(StoreError("it is changed all the time".into()));
        match meaning {
            Meaning::Free | Meaning::Object | Meaning::Step => changed(),
            Meaning::Receipt(place) => Refused::For(CommitError::Lost {
                queue: place.queue.clone(),
                seq: place.seq,
            }),
            Meaning::State {
                table,
                key,
                condition,
            } => {
                let found = found.and_then(|row| number_of(row, "v"));
                self.stamps.saw(found.unwrap_or_default());
                let refused = condition.check(found, || (table.clone(), key.clone()));
                refused.err().map_or(Refused::Behind(nth), Refused::For)
            }
            Meaning::Ended => Refused::For(CommitError::Conflict {
                table: String::new(),
                key: String::new(),
                found: "another count".into(),
            }),
            Meaning::Count { table, key } => Refused::For(
                StoreError(format!("`{table}/{key}` holds no number that can be added to")).into(),
            ),
            Meaning::Staged(blob) => {
                let blob = blob.escape_debug();
                Refused::For(StoreError(format!("staged blob `{blob}` is published already, or gone")).into())
            }
        }
    }
}
