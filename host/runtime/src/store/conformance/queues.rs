//! What the contract says of queues.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::Depth;

pub(super) async fn run(make: &impl AsyncFn() -> Fixture, load: Load) {
    run!(
        make,
        load,
        events_come_whole_and_in_the_order_of_their_commits,
        a_long_backlog_comes_in_order,
        concurrent_claims_share_the_events,
        a_claimed_event_is_not_claimed_again,
        what_is_given_back_comes_first_with_its_attempt,
        a_settled_event_is_gone_and_its_receipt_spent,
        a_receipt_counts_once_in_a_unit,
        settling_and_trying_again_is_one_commit,
        a_claim_waits_for_the_first_event,
        every_waiting_claim_gets_an_event,
        a_claim_that_is_dropped_claims_nothing,
        a_claim_returns_empty_when_its_time_is_up,
        giving_back_wakes_a_waiting_claim,
        held_back_events_come_when_their_time_comes,
        a_time_that_passed_does_not_hold_back,
        queues_do_not_mix,
    );
}

async fn events_come_whole_and_in_the_order_of_their_commits(store: Arc<dyn Store>, _: Load) {
    store
        .commit(events([enqueue("q", "1"), enqueue("q", "2")]))
        .await
        .unwrap();
    store
        .commit(events([Enqueue {
            attempt: 7,
            ..enqueue("q", "3")
        }]))
        .await
        .unwrap();
    let first = store.claim("q", 1, LONG).await.unwrap();
    assert_eq!((&*first[0].event, first[0].attempt), (&*event("1"), 1));
    assert_eq!(first[0].receipt.queue, "q");
    let rest = claim_all(&*store, "q").await;
    assert_eq!(ids(&rest), ["2", "3"]);
    assert_eq!((&*rest[1].event, rest[1].attempt), (&*event("3"), 7));
}

async fn a_long_backlog_comes_in_order(store: Arc<dyn Store>, load: Load) {
    let all: Vec<String> = (0..100 * load.hundreds).map(|n| format!("{n:05}")).collect();
    for some in all.chunks(10 * load.hundreds) {
        store
            .commit(events(some.iter().map(|id| enqueue("q", id))))
            .await
            .unwrap();
    }
    assert_eq!(
        store.depth("q").await.unwrap(),
        Depth {
            ready: all.len() as u64,
            delayed: 0
        }
    );
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let some = store.claim("q", 77, LONG).await.unwrap();
        assert!(!some.is_empty() && some.len() <= 77);
        seen.extend(ids(&some));
        store.commit(settle(receipts(&some))).await.unwrap();
    }
    assert_eq!(seen, all);
    assert_eq!(store.depth("q").await.unwrap(), Depth::default());
    assert!(is_dry(&*store, "q").await);
}

async fn concurrent_claims_share_the_events(store: Arc<dyn Store>, load: Load) {
    let commits = 4 * load.hundreds;
    let left = Arc::new(AtomicUsize::new(5 * commits));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, left) = (store.clone(), left.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while left.load(Ordering::Relaxed) > 0 {
                    let some = store.claim("q", 10, SHORT).await.unwrap();
                    left.fetch_sub(some.len(), Ordering::Relaxed);
                    seen.extend(ids(&some));
                }
                seen
            })
        })
        .collect();
    for n in 0..commits {
        store
            .commit(events((0..5).map(|m| enqueue("q", &format!("{n:03}-{m}")))))
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    for task in tasks {
        let some = task.await.unwrap();
        assert!(some.is_sorted(), "one claimer sees the events in order");
        seen.extend(some);
    }
    seen.sort();
    let count = seen.len();
    seen.dedup();
    assert_eq!((count, seen.len()), (5 * commits, 5 * commits));
}

async fn a_claimed_event_is_not_claimed_again(store: Arc<dyn Store>, _: Load) {
    store.commit(events([enqueue("q", "1")])).await.unwrap();
    assert_eq!(claim_all(&*store, "q").await.len(), 1);
    assert!(is_dry(&*store, "q").await);
    assert_eq!(
        store.depth("q").await.unwrap().ready,
        1,
        "claimed counts as ready"
    );
    assert!(
        store.claim("q", 0, LONG).await.unwrap().is_empty(),
        "none were asked for"
    );
}

async fn what_is_given_back_comes_first_with_its_attempt(store: Arc<dyn Store>, _: Load) {
    let third = Enqueue {
        attempt: 3,
        ..enqueue("q", "2")
    };
    store
        .commit(events([enqueue("q", "1"), third, enqueue("q", "3")]))
        .await
        .unwrap();
    let claimed = store.claim("q", 2, SHORT).await.unwrap();
    store.unclaim(&receipts(&claimed)).await.unwrap();
    let again = claim_all(&*store, "q").await;
    assert_eq!(ids(&again), ["1", "2", "3"]);
    assert_eq!(again[1].attempt, 3);
    store.commit(settle(receipts(&again))).await.unwrap();
    store.unclaim(&receipts(&again)).await.unwrap();
    assert!(is_dry(&*store, "q").await, "what is settled cannot be given back");
}

async fn a_settled_event_is_gone_and_its_receipt_spent(store: Arc<dyn Store>, _: Load) {
    store
        .commit(events([enqueue("q", "1"), enqueue("q", "2")]))
        .await
        .unwrap();
    let claimed = claim_all(&*store, "q").await;
    let [first, second] = [claimed[0].receipt.clone(), claimed[1].receipt.clone()];
    store.commit(settle([first.clone()])).await.unwrap();
    assert_eq!(store.depth("q").await.unwrap().ready, 1);
    let unit = Unit {
        state: vec![put("t", "k", "1")],
        ..settle([second.clone(), first.clone()])
    };
    assert!(is_lost(&store.commit(unit).await));
    assert_eq!(value(&*store, "t", "k").await, None);
    store.unclaim(std::slice::from_ref(&second)).await.unwrap();
    assert!(
        is_lost(&store.commit(settle([second.clone()])).await),
        "given back, it is not held"
    );
    assert_eq!(ids(&claim_all(&*store, "q").await), ["2"]);
    let unknown = Receipt {
        queue: "q".into(),
        seq: u64::MAX,
        claim: 1,
    };
    assert!(is_lost(&store.commit(settle([unknown])).await));
    assert!(is_lost(
        &store
            .commit(settle([Receipt {
                queue: "none".into(),
                ..second
            }]))
            .await
    ));
}

async fn a_receipt_counts_once_in_a_unit(store: Arc<dyn Store>, _: Load) {
    store.commit(events([enqueue("q", "1")])).await.unwrap();
    let receipt = claim_all(&*store, "q").await[0].receipt.clone();
    assert!(is_lost(
        &store.commit(settle([receipt.clone(), receipt.clone()])).await
    ));
    store.commit(settle([receipt])).await.unwrap();
}

async fn settling_and_trying_again_is_one_commit(store: Arc<dyn Store>, _: Load) {
    store
        .commit(events([enqueue("q", "1"), enqueue("q", "2")]))
        .await
        .unwrap();
    let claimed = store.claim("q", 1, LONG).await.unwrap();
    let again = Enqueue {
        attempt: 2,
        ..enqueue("q", "1")
    };
    store
        .commit(Unit {
            enqueue: vec![again],
            ..settle(receipts(&claimed))
        })
        .await
        .unwrap();
    let rest = claim_all(&*store, "q").await;
    assert_eq!(ids(&rest), ["2", "1"]);
    assert_eq!(rest[1].attempt, 2);
}

async fn a_claim_waits_for_the_first_event(store: Arc<dyn Store>, _: Load) {
    let claim = tokio::spawn({
        let store = store.clone();
        async move { store.claim("q", 10, LONG).await.unwrap() }
    });
    tokio::time::sleep(SHORT).await;
    assert!(!claim.is_finished());
    store.commit(events([enqueue("q", "1")])).await.unwrap();
    let claimed = tokio::time::timeout(LONG, claim).await.unwrap().unwrap();
    assert_eq!(ids(&claimed), ["1"]);
}

async fn every_waiting_claim_gets_an_event(store: Arc<dyn Store>, _: Load) {
    let claims: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.claim("q", 1, LONG).await.unwrap() })
        })
        .collect();
    tokio::time::sleep(SHORT).await;
    store
        .commit(events(["1", "2", "3", "4"].map(|id| enqueue("q", id))))
        .await
        .unwrap();
    let mut seen = Vec::new();
    for claim in claims {
        seen.extend(ids(&tokio::time::timeout(LONG, claim).await.unwrap().unwrap()));
    }
    seen.sort();
    assert_eq!(seen, ["1", "2", "3", "4"]);
}

async fn a_claim_that_is_dropped_claims_nothing(store: Arc<dyn Store>, load: Load) {
    for n in 0..load.hundreds {
        let claim = tokio::spawn({
            let store = store.clone();
            async move { store.claim("q", 1, LONG).await.unwrap().len() }
        });
        tokio::task::yield_now().await;
        store
            .commit(events([enqueue("q", &n.to_string())]))
            .await
            .unwrap();
        claim.abort();
        let taken = claim.await.unwrap_or(0);
        let left = store.claim("q", 10, Duration::ZERO).await.unwrap();
        assert_eq!(taken + left.len(), 1, "round {n}");
    }
}

async fn a_claim_returns_empty_when_its_time_is_up(store: Arc<dyn Store>, _: Load) {
    let started = std::time::Instant::now();
    assert!(store.claim("q", 1, SHORT).await.unwrap().is_empty());
    assert!(started.elapsed() >= SHORT);
    assert!(store.claim("q", 1, Duration::ZERO).await.unwrap().is_empty());
}

async fn giving_back_wakes_a_waiting_claim(store: Arc<dyn Store>, _: Load) {
    store.commit(events([enqueue("q", "1")])).await.unwrap();
    let claimed = claim_all(&*store, "q").await;
    let claim = tokio::spawn({
        let store = store.clone();
        async move { store.claim("q", 1, LONG).await.unwrap() }
    });
    tokio::time::sleep(SHORT).await;
    store.unclaim(&receipts(&claimed)).await.unwrap();
    let again = tokio::time::timeout(LONG, claim).await.unwrap().unwrap();
    assert_eq!(ids(&again), ["1"]);
}

async fn held_back_events_come_when_their_time_comes(store: Arc<dyn Store>, load: Load) {
    let (now, moment) = (now_ms(), load.moment);
    let held = |id: &str, ms: u64| Enqueue {
        not_before: Some(now + ms),
        attempt: 2,
        ..enqueue("q", id)
    };
    store
        .commit(events([
            held("much later", 3_600_000),
            held("later", 2 * moment),
            held("soon", moment),
        ]))
        .await
        .unwrap();
    store.commit(events([enqueue("q", "now")])).await.unwrap();
    assert_eq!(store.depth("q").await.unwrap(), Depth { ready: 1, delayed: 3 });
    assert_eq!(ids(&store.claim("q", 10, LONG).await.unwrap()), ["now"]);
    let soon = store.claim("q", 10, LONG).await.unwrap();
    assert!(now_ms() >= now + moment, "held back until its time");
    assert_eq!((ids(&soon), soon[0].attempt), (vec!["soon".to_string()], 2));
    let later = store.claim("q", 10, LONG).await.unwrap();
    assert!(now_ms() >= now + 2 * moment);
    assert!(now_ms() < now + 20 * moment, "comes soon after its time");
    assert_eq!(ids(&later), ["later"]);
    store.commit(settle(receipts(&later))).await.unwrap();
    assert_eq!(store.depth("q").await.unwrap(), Depth { ready: 2, delayed: 1 });
}

async fn a_time_that_passed_does_not_hold_back(store: Arc<dyn Store>, _: Load) {
    let past = Enqueue {
        not_before: Some(now_ms() - 1000),
        ..enqueue("q", "1")
    };
    store.commit(events([past, enqueue("q", "2")])).await.unwrap();
    assert_eq!(ids(&claim_all(&*store, "q").await), ["1", "2"]);
}

async fn queues_do_not_mix(store: Arc<dyn Store>, _: Load) {
    store
        .commit(events([enqueue("q", "1"), enqueue("qq", "2"), enqueue("", "3")]))
        .await
        .unwrap();
    assert_eq!(ids(&claim_all(&*store, "q").await), ["1"]);
    assert_eq!(ids(&claim_all(&*store, "qq").await), ["2"]);
    assert_eq!(ids(&claim_all(&*store, "").await), ["3"]);
    assert_eq!(store.depth("none").await.unwrap(), Depth::default());
}
