//! Rollouts of versions: begun and stopped by somebody, and moved on by whichever host sees first what has to become of one.
//!
//! A rollout is a row of the store, and so are each host's counts of the stage that it is in. A host that judges their sum
//! changes rollout and alias under the versions that it read: of several, one does it.

mod counts;
mod watch;

use serde_json::json;
use tidegate_ml::registry::{Alias, CHAMPION, PREVIOUS};
use tidegate_ml::rollout::{Policy, Rollout, State};
use tidegate_runtime::Platform;
use tidegate_runtime::store::{CommitError, Condition, StateWrite, Store, StoreError};

use super::aliases::{self, ChangeError};
use super::{decoded, write};
pub use watch::watch;

/// The table of rollouts, by model; the latest of each.
const ROLLOUTS: &str = "$models.rollouts";

/// The latest rollout of a model, and what has to hold for it to be changed.
async fn read(store: &dyn Store, model: &str) -> Result<(Option<Rollout>, Condition), StoreError> {
    match store.get(ROLLOUTS, model).await? {
        None => Ok((None, Condition::Absent)),
        Some(row) => Ok((Some(decoded(&row.value)?), Condition::Version(row.version))),
    }
}

/// The latest rollout of a model as it is shown: one that goes on with the figures of all hosts.
pub async fn shown(store: &dyn Store, model: &str) -> Result<Option<Rollout>, StoreError> {
    let (Some(mut rollout), _) = read(store, model).await? else {
        return Ok(None);
    };
    if rollout.state == State::Running {
        rollout.measured = Some(counts::sum(store, &rollout).await?.measured());
    }
    Ok(Some(rollout))
}

/// Refuses to move an alias that a rollout moves.
pub(super) async fn refuse_running(store: &dyn Store, model: &str) -> Result<(), ChangeError> {
    match read(store, model).await? {
        (Some(rollout), _) if rollout.state == State::Running => Err(ChangeError::Refused(format!(
            "version {} of model `{model}` is being rolled out; stop that first",
            rollout.version
        ))),
        _ => Ok(()),
    }
}

/// Begins to give a version the champion's requests, in the stages of a policy.
pub async fn begin(
    platform: &Platform,
    model: &str,
    version: u64,
    policy: Policy,
    now: u64,
) -> Result<Rollout, ChangeError> {
    let mistakes = policy.mistakes();
    if !mistakes.is_empty() {
        return Err(ChangeError::Refused(mistakes.join("; ")));
    }
    let store = platform.store().as_ref();
    refuse_running(store, model).await?;
    let (alias, held) = aliases::champion(store, model).await?;
    aliases::registered(store, model, version).await?;
    if version == alias.version {
        return Err(ChangeError::Refused(format!(
            "version {version} is the `{CHAMPION}` of model `{model}` already"
        )));
    }
    let (_, condition) = read(store, model).await?;
    let rollout = Rollout::begin(model, version, alias.version, policy, now);
    settle(platform, &rollout, condition, (alias, held), Vec::new()).await?;
    Ok(rollout)
}

/// Gives the champion all requests back.
pub async fn stop(platform: &Platform, model: &str) -> Result<Rollout, ChangeError> {
    let store = platform.store().as_ref();
    let (rollout, condition) = read(store, model).await?;
    let running = rollout.filter(|rollout| rollout.state == State::Running);
    let none = || ChangeError::Missing(format!("no version of model `{model}` is being rolled out"));
    let mut rollout = running.ok_or_else(none)?;
    rollout.measured = Some(counts::sum(store, &rollout).await?.measured());
    let rollout = rollout.end(State::RolledBack, "it was stopped by hand");
    let alias = aliases::champion(store, model).await?;
    let counted = counts::forgotten(store, model).await?;
    settle(platform, &rollout, condition, alias, counted).await?;
    Ok(rollout)
}

/// Commits where a rollout stands, the alias that follows from it, and the event that tells of its end.
async fn settle(
    platform: &Platform,
    rollout: &Rollout,
    condition: Condition,
    (alias, held): (Alias, Condition),
    more: Vec<StateWrite>,
) -> Result<(), CommitError> {
    let model = &rollout.model;
    let mut state = vec![write(ROLLOUTS, model.clone(), rollout, condition)];
    if rollout.state != State::Superseded {
        let after = alias_of(rollout, &alias);
        if after.version != alias.version {
            let previous = Alias::to(alias.version, after.since);
            state.push(aliases::written(model, PREVIOUS, &previous, Condition::None));
        }
        state.push(aliases::written(model, CHAMPION, &after, held));
    }
    state.extend(more);
    let told = kind_of(rollout.state).map(|kind| (kind, model.clone(), json!(rollout)));
    platform.commit_rows("/models", state, told).await?;
    tracing::info!(
        model,
        version = rollout.version,
        share = rollout.share(),
        state = ?rollout.state,
        reason = rollout.reason,
        "rollout"
    );
    Ok(())
}

/// The event that tells of a rollout's end.
fn kind_of(state: State) -> Option<&'static str> {
    match state {
        State::RolledOut => Some("tidegate.model.rolled-out"),
        State::RolledBack => Some("tidegate.model.rolled-back"),
        State::Running | State::Superseded => None,
    }
}

/// The champion's alias as a rollout has it.
fn alias_of(rollout: &Rollout, before: &Alias) -> Alias {
    let share = rollout.share();
    match rollout.state {
        State::Running => Alias {
            versions: [(rollout.champion, 100 - share), (rollout.version, share)].into(),
            shadow: before.shadow.filter(|shadow| *shadow != rollout.version),
            ..before.clone()
        },
        State::RolledOut => Alias {
            shadow: before.shadow.filter(|shadow| *shadow != rollout.version),
            ..Alias::to(rollout.version, rollout.since)
        },
        State::RolledBack | State::Superseded => Alias {
            versions: Default::default(),
            ..before.clone()
        },
    }
}

/// Whether the alias is as a rollout that goes on has it.
fn stands(rollout: &Rollout, alias: &Alias) -> bool {
    alias.version == rollout.champion && alias.versions == alias_of(rollout, alias).versions
}
