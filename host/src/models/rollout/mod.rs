//! Rollouts of versions: begun and stopped by somebody, and moved on by whichever host sees first what has to become of one.
//!
//! A rollout is a row of the store, and so are each host's counts of the stage that it is in. A host that judges their sum
//! changes rollout and alias under the versions that it read: of several, one does it. The alias of a champion that is watched
//! says so, as hosts count only requests that are compared.

mod counts;
mod watch;

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_ml::registry::{Alias, CHAMPION, PREVIOUS};
use tidegate_ml::rollout::{Policy, Rollout, State};
use tidegate_runtime::Platform;
use tidegate_runtime::store::{CommitError, Condition, StateWrite, Store, StoreError};

use super::aliases::{self, ChangeError};
use super::{decoded, now, write};
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
    if rollout.state.goes_on() {
        rollout.measured = Some(counts::sum(store, &rollout).await?.measured());
    }
    Ok(Some(rollout))
}

/// Refuses to move an alias that a rollout splits. One that is watched may be moved, which ends the watch.
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

/// Gives the champion all requests back, or the former one.
pub async fn stop(platform: &Platform, model: &str) -> Result<Rollout, ChangeError> {
    let store = platform.store().as_ref();
    let (rollout, condition) = read(store, model).await?;
    let going_on = rollout.filter(|rollout| rollout.state.goes_on());
    let none = || ChangeError::Missing(format!("no version of model `{model}` is being rolled out"));
    let mut rollout = going_on.ok_or_else(none)?;
    rollout.measured = Some(counts::sum(store, &rollout).await?.measured());
    let alias = aliases::champion(store, model).await?;
    let rollout = match stands(&rollout, &alias.0) {
        true => rollout.end(State::RolledBack, "it was stopped by hand"),
        false => superseded(rollout),
    };
    let counted = counts::forgotten(store, model).await?;
    settle(platform, &rollout, condition, alias, counted).await?;
    Ok(rollout)
}

/// The end of a rollout whose alias somebody moved.
fn superseded(rollout: Rollout) -> Rollout {
    rollout.end(State::Superseded, "the alias `champion` was moved meanwhile")
}

/// Commits where a rollout stands, the alias that follows from it, and the event that tells of it.
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
    let told = kind_of(rollout).map(|kind| (kind, model.clone(), json!(rollout)));
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

/// The event that tells of a new champion, or of a rollout's end.
fn kind_of(rollout: &Rollout) -> Option<&'static str> {
    match rollout.state {
        State::Watched if rollout.is_new_champion() => Some("tidegate.model.promoted"),
        State::RolledOut => Some("tidegate.model.rolled-out"),
        State::RolledBack => Some("tidegate.model.rolled-back"),
        State::Running | State::Watched | State::Superseded => None,
    }
}

/// The champion's alias as a rollout has it.
fn alias_of(rollout: &Rollout, before: &Alias) -> Alias {
    let share = rollout.share();
    let (version, versions) = match rollout.state {
        State::Running => (
            rollout.champion,
            BTreeMap::from([(rollout.champion, 100 - share), (rollout.version, share)]),
        ),
        State::Watched | State::RolledOut => (rollout.version, BTreeMap::new()),
        State::RolledBack | State::Superseded => (rollout.champion, BTreeMap::new()),
    };
    let since = match version == before.version {
        true => before.since,
        false => now(),
    };
    let answers = [version, rollout.version];
    Alias {
        versions,
        shadow: before.shadow.filter(|shadow| !answers.contains(shadow)),
        watched: rollout.state == State::Watched,
        ..Alias::to(version, since)
    }
}

/// Whether the alias is as a rollout that goes on has it.
fn stands(rollout: &Rollout, alias: &Alias) -> bool {
    *alias == alias_of(rollout, alias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_champion_stands_until_somebody_moves_it_and_gives_its_place_back() {
        let running = Rollout::begin("ranker", 4, 3, Policy::default(), 1);
        let before = Alias {
            shadow: Some(2),
            ..Alias::to(3, 1)
        };
        let split = alias_of(&running, &before);
        assert_eq!((split.version, split.watched), (3, false));
        assert!(stands(&running, &split) && !stands(&running, &before));

        let watched = running.advance(2).advance(3);
        let champion = alias_of(&watched, &split);
        assert_eq!((champion.version, champion.watched), (4, true));
        assert_eq!((champion.shadow, champion.versions.len()), (Some(2), 0));
        assert!(stands(&watched, &champion));
        assert!(!stands(&watched, &Alias::to(4, champion.since)));

        let of_former = Alias {
            shadow: Some(3),
            ..champion
        };
        let ended = watched.clone().end(State::RolledOut, "");
        assert!(!alias_of(&ended, &of_former).watched);
        let back = alias_of(&watched.end(State::RolledBack, ""), &of_former);
        assert_eq!((back.version, back.watched, back.shadow), (3, false, None));
        assert!(back.since > before.since);
    }
}
