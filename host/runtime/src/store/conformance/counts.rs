//! Counts: what many units add up at one time.

use super::*;
use crate::store::Count;

pub(super) async fn run(make: &impl AsyncFn() -> Fixture, load: Load) {
    run!(
        make,
        load,
        counts_add_up_and_the_last_enqueues_once,
        a_refused_unit_adds_nothing,
        a_count_of_nothing_enqueues_at_once,
        what_is_no_number_is_not_added_to,
    );
}

/// A unit that adds to the count `k`.
fn adding(add: i64) -> Unit {
    Unit {
        counts: vec![Count {
            table: "counts".into(),
            key: "k".into(),
            add,
            at_zero: enqueue("zero", "all"),
        }],
        ..Unit::default()
    }
}

async fn found(store: &Arc<dyn Store>) -> Option<Bytes> {
    let found = store.get("counts", "k").await.unwrap();
    found.map(|found| found.value)
}

async fn counts_add_up_and_the_last_enqueues_once(store: Arc<dyn Store>, load: Load) {
    let parts = 20 * load.hundreds as i64;
    store.commit(adding(parts)).await.unwrap();
    assert_eq!(found(&store).await.as_deref(), Some(parts.to_string().as_bytes()));
    let mut units = tokio::task::JoinSet::new();
    for _ in 1..parts {
        let store = store.clone();
        units.spawn(async move { store.commit(adding(-1)).await });
    }
    while let Some(committed) = units.join_next().await {
        committed.unwrap().unwrap();
    }
    assert_eq!(found(&store).await.as_deref(), Some(b"1".as_slice()));
    assert_eq!(store.depth("zero").await.unwrap().ready, 0);
    store.commit(adding(-1)).await.unwrap();
    assert_eq!(found(&store).await, None);
    let deliveries = store.claim("zero", 10, LONG).await.unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].event.id, "all");
}

async fn a_refused_unit_adds_nothing(store: Arc<dyn Store>, _: Load) {
    store.commit(adding(1)).await.unwrap();
    let refused = Unit {
        state: vec![StateWrite {
            condition: Condition::Version(7),
            ..put("t", "absent", "x")
        }],
        ..adding(-1)
    };
    let answer = store.commit(refused).await;
    assert!(matches!(answer, Err(CommitError::Conflict { .. })), "{answer:?}");
    assert_eq!(found(&store).await.as_deref(), Some(b"1".as_slice()));
    assert_eq!(store.depth("zero").await.unwrap().ready, 0);
}

async fn a_count_of_nothing_enqueues_at_once(store: Arc<dyn Store>, _: Load) {
    store.commit(adding(0)).await.unwrap();
    assert_eq!(found(&store).await, None);
    assert_eq!(store.depth("zero").await.unwrap().ready, 1);
}

async fn what_is_no_number_is_not_added_to(store: Arc<dyn Store>, _: Load) {
    let unit = Unit {
        state: vec![put("counts", "k", "many")],
        ..Unit::default()
    };
    store.commit(unit).await.unwrap();
    let answer = store.commit(adding(1)).await;
    assert!(matches!(answer, Err(CommitError::Store(_))), "{answer:?}");
    assert_eq!(found(&store).await.as_deref(), Some(b"many".as_slice()));
}
