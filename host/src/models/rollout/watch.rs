//! Looks after the rollouts whose requests come by this host.

use std::time::Duration;

use tidegate_ml::rollout::{Rollout, State, Verdict};
use tidegate_runtime::Platform;
use tidegate_runtime::store::{CommitError, Condition};

use super::{aliases, counts, read, settle, stands};
use crate::inference::WorkerPool;
use crate::models::aliases::ChangeError;
use crate::models::now;

/// How often rollouts are looked after.
const TURN: Duration = Duration::from_secs(1);

/// Tells what this host counts and judges what all hosts did, again and again.
pub async fn watch(platform: &Platform, workers: &WorkerPool) {
    let host = format!("{:016x}", rand::random::<u64>());
    loop {
        tokio::time::sleep(TURN).await;
        for model in workers.tallies().models() {
            match look_after(platform, workers, &host, &model).await {
                // Another host was first.
                Ok(()) | Err(ChangeError::Commit(CommitError::Conflict { .. })) => {}
                Err(error) => tracing::warn!(model, %error, "the rollout is not looked after"),
            }
        }
    }
}

async fn look_after(
    platform: &Platform,
    workers: &WorkerPool,
    host: &str,
    model: &str,
) -> Result<(), ChangeError> {
    let store = platform.store().as_ref();
    let (rollout, condition) = read(store, model).await?;
    let Some(rollout) = rollout.filter(|rollout| rollout.state == State::Running) else {
        // Its versions share the requests by somebody's will, and no policy's.
        workers.tallies().forget(model);
        return Ok(());
    };
    let tally = workers.tallies().of(&rollout);
    let measured = counts::tell(store, host, &rollout, tally).await?.measured();
    let rollout = Rollout {
        measured: Some(measured),
        ..rollout
    };
    move_on(platform, rollout, condition).await
}

/// Moves a rollout to where its figures bring it.
async fn move_on(platform: &Platform, rollout: Rollout, condition: Condition) -> Result<(), ChangeError> {
    let store = platform.store().as_ref();
    let alias = aliases::champion(store, &rollout.model).await?;
    let elapsed = now().saturating_sub(rollout.since);
    let measured = rollout.measured.clone().unwrap_or_default();
    let rollout = match measured.judge(&rollout.policy, elapsed) {
        _ if !stands(&rollout, &alias.0) => {
            rollout.end(State::Superseded, "the alias `champion` was moved meanwhile")
        }
        Verdict::Wait => return Ok(()),
        Verdict::Advance => rollout.advance(now()),
        Verdict::Degraded(reason) => rollout.end(State::RolledBack, &reason),
    };
    let counted = match rollout.state {
        State::Running => Vec::new(),
        _ => counts::forgotten(store, &rollout.model).await?,
    };
    Ok(settle(platform, &rollout, condition, alias, counted).await?)
}
