//! What hosts counted in a stage of a rollout: a row of each, which only that host writes.

use serde::{Deserialize, Serialize};
use tidegate_ml::rollout::{Rollout, Tally};
use tidegate_runtime::store::{CommitError, Condition, Order, StateWrite, Store, StoreError, Unit};

use super::write;

/// The table, by model and host.
const COUNTS: &str = "$models.counts";
/// Hosts whose counts are added up.
const HOSTS: usize = 1000;
/// Rows that are removed with one end of a rollout; what is left of more is of no stage that is to come.
const REMOVED: usize = 50;

#[derive(Serialize, Deserialize)]
struct Counted {
    turn: (u64, usize),
    tally: Tally,
}

fn prefix(model: &str) -> String {
    format!("{model}/")
}

/// Tells what this host counted, and adds up what all did.
pub(super) async fn tell(
    store: &dyn Store,
    host: &str,
    rollout: &Rollout,
    tally: Tally,
) -> Result<Tally, CommitError> {
    let turn = rollout.turn();
    let counted = Counted { turn, tally };
    let key = format!("{}{host}", prefix(&rollout.model));
    let unit = Unit {
        state: vec![write(COUNTS, key, &counted, Condition::None)],
        ..Unit::default()
    };
    store.commit(unit).await?;
    Ok(sum(store, rollout).await?)
}

/// What all hosts counted in the stage that a rollout is in.
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
        store
            .commit(Unit {
                state,
                ..Unit::default()
            })
            .await
            .unwrap();
        assert_eq!(sum(&store, &second).await.unwrap(), Tally::default());
    }
}
