//! A hold: a row that stops the commits of all hosts while the store is backed up, or until it is restored.
//!
//! Hosts look at it when they commit, at most every two seconds, so that it costs an idle host nothing. A host that
//! looks late commits late: the back-up finds that out, and is none. What is proved is proved by reading twice
//! ([`crate::backup`]); the hold is why that succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_runtime::store::StoreError;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::failure;
use crate::items::{Item, number, number_of, text, text_of};
use crate::keys::{self, values};
use crate::store::Core;

/// How old a look may be.
pub(crate) const LOOK: Duration = Duration::from_secs(2);
/// How long a commit waits before it is told to come later.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a hold lasts when nobody renews it.
const LASTS_MS: u64 = 30_000;
/// Between two renewals.
const RENEW: Duration = Duration::from_secs(5);

/// What a host saw last.
#[derive(Default)]
pub(crate) struct Seen(tokio::sync::Mutex<Option<(Instant, bool)>>);

impl Core {
    /// Whether the store is held, as it was two seconds ago at most.
    pub(crate) async fn is_held(&self) -> Result<bool, StoreError> {
        let mut seen = self.seen.0.lock().await;
        if let Some((at, held)) = *seen
            && at.elapsed() < LOOK
        {
            return Ok(held);
        }
        // What was so when it was asked, not when it was answered.
        let asked = Instant::now();
        let row = self.row(&keys::hold()).await?;
        let until = row.and_then(|row| number_of::<u64>(&row, "until"));
        let held = until.is_some_and(|until| until > self.now());
        *seen = Some((asked, held));
        Ok(held)
    }

    /// Waits until the store is not held, for a while.
    pub(crate) async fn pass(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        while self.is_held().await? {
            if began.elapsed() >= PATIENCE {
                return Err(StoreError(
                    "the store is held for a back-up, or until it is restored".into(),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Holds the store for so long as what is returned lives.
    pub(crate) async fn hold(self: &Arc<Self>) -> Result<DropGuard, StoreError> {
        let by = self.new_id();
        self.renew_hold(&by).await?;
        let (core, stop) = (self.clone(), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move {
            while stopped
                .run_until_cancelled(tokio::time::sleep(RENEW))
                .await
                .is_some()
            {
                if let Err(error) = core.renew_hold(&by).await {
                    tracing::warn!(%error, "the hold of a back-up is not renewed");
                }
            }
            if let Err(error) = core.remove_row(&keys::hold()).await {
                tracing::warn!(%error, "the hold of a back-up ends by itself");
            }
        });
        Ok(stop.drop_guard())
    }

    async fn renew_hold(&self, by: &str) -> Result<(), StoreError> {
        let until = self.now() + LASTS_MS;
        self.put_hold(by, until).await?.then_some(()).ok_or_else(|| {
            StoreError("it is held already: another back-up is under way, or a restore has not ended".into())
        })
    }

    /// Holds the store until somebody with the same name lets go; false where it is held under another name.
    pub(crate) async fn hold_for_ever(&self, by: &str) -> Result<bool, StoreError> {
        self.put_hold(by, i64::MAX.unsigned_abs()).await
    }

    async fn put_hold(&self, by: &str, until: u64) -> Result<bool, StoreError> {
        let put = self.dynamo.put_item().table_name(&self.settings.table);
        let put = put
            .set_item(Some(keys::hold().item()))
            .item("by", text(by))
            .item("until", number(until))
            .condition_expression("attribute_not_exists(pk) OR #by = :by OR #until < :now")
            .expression_attribute_names("#by", "by")
            .expression_attribute_names("#until", "until")
            .set_expression_attribute_values(Some(values([(":by", text(by)), (":now", number(self.now()))])));
        match put.send().await {
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
}

/// Whether a row is the hold; who has it.
pub(crate) fn holder(row: &Item) -> Option<&str> {
    (text_of(row, "pk")? == keys::HOLD).then(|| text_of(row, "by").unwrap_or_default())
}
