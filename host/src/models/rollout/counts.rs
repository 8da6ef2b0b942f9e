//! What hosts counted in a stage of a rollout: a row of each, which only that host writes. Beside them is a row of what the
//! former champion had shown, when another is watched.

use serde::{Deserialize, Serialize};
use tidegate_ml::rollout::{Arm, Rollout, Tally};
use tidegate_runtime::store::{CommitError, Condition, Order, StateWrite, Store, StoreError, Unit};

use super::write;

/// The table, by model and host.
const COUNTS: &str = "$models.counts";
/// What stands in the place of a host, and before all hosts, for the former champion.
const FORMER: &str = "-";
/// Hosts whose counts are added up.
const HOSTS: usize = 1000;
/// Rows that are removed with one end of a rollout; what is left of more is of no stage that is to come.
const REMOVED: usize = 50;

#[derive(Serialize, Deserialize)]
struct Counted {
    turn: (u64, u64),
    tally: Tally,
}

fn prefix(model: &str) -> String {
    format!("{model}/")
}

fn counted(who: &str, rollout: &Rollout, tally: Tally) -> StateWrite {
    let key = format!("{}{who}", prefix(&rollout.model));
    let turn = rollout.turn();
    write(COUNTS, key, &Counted { turn, tally }, Condition::None)
}

/// What keeps the figures of the former champion, which has no requests any more, for the part of a watch that begins.
pub(super) fn of_former(rollout: &Rollout, champion: Arm) -> StateWrite {
    let tally = Tally {
        champion,
        ..Tally::default()
    };
    counted(FORMER, rollout, tally)
}

/// Tells what this host counted, and adds up what all did.
pub(super) async fn tell(
    store: &dyn Store,
    host: &str,
    rollout: &Rollout,
    tally: Tally,
) -> Result<Tally, CommitError> {
    let unit = Unit {
        state: vec![counted(host, rollout, tally)],
        ..Unit::default()
    };
    store.commit(unit).await?;
    Ok(sum(store, rollout).await?)
}

/// What all hosts counted in the stage that a rollout is in, with the figures of a former champion.
pub(super) async fn sum(store: &dyn Store, rollout: &Rollout) -> Result<Tally, StoreError> {
    let prefix = prefix(&rollout.model);
    let page = store
        .query(COUNTS, &prefix, None, HOSTS, Order::Ascending)
        .await?;
    let mut sum = Tally::default();
    for (_, row) in page.entries {
        let counted: Counted = super::decoded(&row.value)?;
        if counted.turn == rollout.turn() {
            sum.merge(&counted.tally);
        }
    }
    Ok(sum)
}

/// What removes the counts of a model.
pub(super) async fn forgotten(store: &dyn Store, model: &str) -> Result<Vec<StateWrite>, StoreError> {
    let page = store
        .query(COUNTS, &prefix(model), None, REMOVED, Order::Ascending)
        .await?;
    let removed = page.entries.into_iter().map(|(key, _)| StateWrite {
        table: COUNTS.into(),
        key,
        value: None,
        condition: Condition::None,
    });
    Ok(removed.collect())
}

#[cfg(test)]
mod tests {
    use tidegate_ml::rollout::Policy;
    use tidegate_runtime::store::memory::Memory;

    use super::*;

    #[tokio::test]
    async fn what_hosts_counted_in_one_stage_is_added_up() {
        let store = Memory::default();
        let first = Rollout::begin("ranker", 4, 3, Policy::default(), 1);
        let second = first.clone().advance(2);
        let counted = |times: usize| {
            let mut tally = Tally::default();
            (0..times).for_each(|_| tally.candidate.answered(0.001, &[0.5]));
            tally
        };
        tell(&store, "a", &first, counted(1)).await.unwrap();
        let both = tell(&store, "b", &first, counted(2)).await.unwrap();
        assert_eq!(both.candidate.requests, 3);
        tell(&store, "a", &second, counted(5)).await.unwrap();
        assert_eq!(sum(&store, &second).await.unwrap(), counted(5));
        let other = Rollout::begin("other", 4, 3, Policy::default(), 1);
        assert_eq!(sum(&store, &other).await.unwrap(), Tally::default());
        let state = forgotten(&store, "ranker").await.unwrap();
        commit(&store, state).await;
        assert_eq!(sum(&store, &second).await.unwrap(), Tally::default());
    }

    async fn commit(store: &Memory, state: Vec<StateWrite>) {
        let unit = Unit {
            state,
            ..Unit::default()
        };
        store.commit(unit).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_champion_is_compared_with_what_the_former_had_shown() {
        let store = Memory::default();
        let split = Rollout::begin("ranker", 4, 3, Policy::default(), 1).advance(2);
        let mut shown = Tally::default();
        (0..9).for_each(|_| shown.champion.answered(0.001, &[0.5]));
        (0..3).for_each(|_| shown.candidate.answered(0.002, &[0.5]));
        let mut last = tell(&store, "a", &split, shown.clone()).await.unwrap();
        // Each part of its watch begins with the same, and what was counted before that is not in it.
        let mut watched = split;
        for now in [3, 4] {
            watched = watched.advance(now);
            commit(&store, vec![of_former(&watched, last.champion)]).await;
            last = sum(&store, &watched).await.unwrap();
            assert_eq!((&last.champion, last.candidate.requests), (&shown.champion, 0));
        }
        let mut counted = Tally::default();
        counted.candidate.failed();
        let both = tell(&store, "b", &watched, counted).await.unwrap();
        assert_eq!((both.champion, both.candidate.errors), (shown.champion, 1));
    }
}
