//! Messages of SQS: each names an event of the store, or tells a notice of S3.
//!
//! Lambda removes every message but those that are told back as failures. So one is told back only where it has to come
//! again by itself: it cannot be read, or the host could not do its work. An event that is to be tried again has its own
//! message by then, which the store sent with the delay that the function's `retry` wants.

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud::{Cloud, Handed};
use tidegate_runtime::store::Delivery;

use super::Lambda;

/// Messages that are looked at at one time.
const AT_ONCE: usize = 10;

/// A message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    message_id: String,
    body: String,
}

/// How far a message has come.
enum Taken {
    /// Its event is to be handled.
    Event(Box<Delivery>),
    /// It may be removed.
    Done,
}

impl Lambda {
    /// Handles messages; the answer says which have to come again.
    pub(super) async fn handle(&self, records: Vec<Record>) -> Value {
        let (mut deliveries, mut handled, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for some in records.chunks(AT_ONCE) {
            let taken = join_all(some.iter().map(|record| self.take(record))).await;
            for (record, taken) in some.iter().zip(taken) {
                match taken {
                    Ok(Taken::Event(delivery)) => {
                        deliveries.push(*delivery);
                        handled.push(record);
                    }
                    Ok(Taken::Done) => {}
                    Err(error) => {
                        tracing::warn!(message = record.message_id, error = %format!("{error:#}"), "a message comes again");
                        failed.push(record);
                    }
                }
            }
        }
        if let Err(error) = self.faces.platform.handle(deliveries).await {
            tracing::warn!(%error, "events are not given back; they come again when their claims are up");
        }
        for some in handled.chunks(AT_ONCE) {
            let done = join_all(some.iter().map(|record| self.is_done(record))).await;
            let left = some.iter().zip(done).filter(|(_, done)| !done);
            failed.extend(left.map(|(record, _)| *record));
        }
        let failures = failed
            .into_iter()
            .map(|record| json!({ "itemIdentifier": record.message_id }));
        json!({ "batchItemFailures": failures.collect::<Vec<Value>>() })
    }

    /// Whether the message of an event that was handled may be removed.
    fn is_done<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, bool> {
        let asked = async {
            let done = self.cloud.is_done(&record.body).await;
            let error = done.as_ref().err().map(ToString::to_string);
            let done = done.unwrap_or(false);
            if !done {
                tracing::warn!(
                    message = record.message_id,
                    error,
                    "an event is not handled; its message comes again"
                );
            }
            done
        };
        asked.boxed()
    }

    fn take<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, anyhow::Result<Taken>> {
        let taken = async {
            if !Cloud::is_own(&record.body) {
                self.take_in(&record.body).await?;
                return Ok(Taken::Done);
            }
            Ok(match self.cloud.hand(&record.body).await? {
                Handed::Ours(delivery) => Taken::Event(delivery),
                Handed::Spent => Taken::Done,
            })
        };
        taken.boxed()
    }
}
