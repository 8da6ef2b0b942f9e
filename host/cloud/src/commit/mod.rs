//! Commits: a unit is one transaction, and with it a row of the outbox that tells what follows.
//!
//! A transaction takes a hundred actions and 4 MB. What depends on something (receipts, conditions, objects, counts)
//! is always in it. Where the rest does not fit, it lies in the row of the outbox and is written by further
//! transactions that count themselves, so that each is applied once: the unit is there as a whole when its commit
//! returns, or when the sweep has finished it.

mod action;
mod objects;
mod plan;
mod prepared;
mod rows;
mod transact;

use std::sync::Arc;

use tidegate_runtime::store::{CommitError, StoreError, Unit};

pub(crate) use self::action::{Action, Meaning, When};
pub(crate) use self::plan::{FULL, LARGEST};
pub(crate) use self::prepared::{NewEvent, Prepared, Zero};
pub(crate) use self::rows::Row;
pub(crate) use self::transact::Refused;

use self::plan::Plan;
use crate::store::{Core, Patience};

impl Core {
    /// Commits a unit and does what follows from it.
    pub(crate) async fn commit(self: &Arc<Self>, unit: Unit) -> Result<(), CommitError> {
        self.pass().await?;
        let _turn = self.turns.acquire().await.map_err(StoreError::new)?;
        let prepared = self.prepared(unit).await?;
        self.commit_prepared(&prepared).await
    }

    pub(crate) async fn commit_prepared(self: &Arc<Self>, prepared: &Prepared) -> Result<(), CommitError> {
        let mut patience = Patience::new();
        loop {
            let plan = self.plan(prepared).await?;
            let busy = match self.transact(&plan.actions).await {
                Ok(()) => return self.follow(plan, prepared).await,
                Err(Refused::For(refused)) => return Err(refused),
                Err(Refused::Busy(busy)) => busy,
                Err(Refused::Behind(_)) => StoreError("the clocks of the hosts are far apart".into()),
            };
            if !patience.wait().await {
                return Err(busy.into());
            }
        }
    }

    /// What comes after the transaction. Only a unit that is not there as a whole is not committed for its caller:
    /// whatever else fails now, the sweep does later.
    async fn follow(self: &Arc<Self>, plan: Plan, prepared: &Prepared) -> Result<(), CommitError> {
        self.let_go(prepared);
        let Some(mut after) = plan.after else {
            return Ok(());
        };
        self.carry_on(&mut after).await?;
        if let Err(error) = Box::pin(self.finish(&after)).await {
            tracing::warn!(unit = after.unit, %error, "what follows a commit is left to the sweep");
        }
        Ok(())
    }
}
