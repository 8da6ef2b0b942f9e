//! Looks after the rollouts whose requests come by this host.

use std::time::Duration;

use tidegate_ml::rollout::{Rollout, State, Tally, Verdict};
use tidegate_runtime::Platform;
use tidegate_runtime::store::{CommitError, Condition};

use super::{aliases, counts, read, settle, stands, superseded};
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
    let Some(rollout) = rollout.filter(|rollout| rollout.state.goes_on()) else {
        // Its versions have the requests by somebody's will, and no policy's.
        workers.tallies().forget(model);
        return Ok(());
    };
    let tally = workers.tallies().of(&rollout);
    let tally = counts::tell(store, host, &rollout, tally).await?;
    move_on(platform, rollout, condition, tally).await
}

/// Moves a rollout to where what was counted brings it.
async fn move_on(
    platform: &Platform,
    mut rollout: Rollout,
    condition: Condition,
    tally: Tally,
) -> Result<(), ChangeError> {
    let store = platform.store().as_ref();
    let alias = aliases::champion(store, &rollout.model).await?;
    let measured = tally.measured();
    let verdict = rollout.judge(&measured, now());
    rollout.measured = Some(measured);
    let rollout = match verdict {
        _ if !stands(&rollout, &alias.0) => superseded(rollout),
        Verdict::Wait => return Ok(()),
        Verdict::Advance => rollout.advance(now()),
        Verdict::Degraded(reason) => rollout.end(State::RolledBack, &reason),
    };
    let counted = match rollout.state {
        State::Running => Vec::new(),
        State::Watched => vec![counts::of_former(&rollout, tally.champion)],
        _ => counts::forgotten(store, &rollout.model).await?,
    };
    Ok(settle(platform, &rollout, condition, alias, counted).await?)
}
