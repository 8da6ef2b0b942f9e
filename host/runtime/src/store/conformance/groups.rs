//! What the contract says of groups within a queue.

use super::*;
use crate::store::{Deferral, Depth, Group};

pub(super) async fn run(make: &impl AsyncFn() -> Fixture, load: Load) {
    run!(
        make,
        load,
        a_group_is_handed_out_one_at_a_time_in_order,
        what_is_given_back_keeps_its_place_in_its_group,
        what_is_deferred_comes_again_in_its_place,
        a_deferral_is_part_of_its_unit,
        a_held_back_event_enters_its_group_when_its_time_comes,
        a_large_backlog_of_one_group_holds_up_no_other,
        an_older_receipt_does_not_touch_a_later_delivery,
    );
}

fn grouped(id: &str, group: &str) -> Enqueue {
    Enqueue {
        group: Some(Group::of(group.as_bytes())),
        ..enqueue("q", id)
    }
}

fn defer(delivery: &Delivery, not_before: u64) -> Unit {
    Unit {
        defer: vec![Deferral {
            receipt: delivery.receipt.clone(),
            not_before,
            attempt: delivery.attempt + 1,
        }],
        ..Unit::default()
    }
}

async fn a_group_is_handed_out_one_at_a_time_in_order(store: Arc<dyn Store>, _: Load) {
    let all = ["a1", "a2", "b1", "a3", "b2"].map(|id| grouped(id, &id[..1]));
    store.commit(events(all)).await.unwrap();
    store.commit(events([enqueue("q", "free")])).await.unwrap();
    let mut held = claim_all(&*store, "q").await;
    assert_eq!(ids(&held), ["a1", "b1", "free"]);
    assert_eq!(held[0].group, Some(Group::of(b"a")));
    assert!(is_dry(&*store, "q").await);
    assert_eq!(store.depth("q").await.unwrap().ready, 6);
    for expected in ["a2", "a3"] {
        store.commit(settle([held[0].receipt.clone()])).await.unwrap();
        held = claim_all(&*store, "q").await;
        assert_eq!(ids(&held), [expected]);
    }
    let claim = tokio::spawn({
        let store = store.clone();
        async move { store.claim("q", 1, LONG).await.unwrap() }
    });
    store.commit(events([grouped("a4", "a")])).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!claim.is_finished());
    store.commit(settle(receipts(&held))).await.unwrap();
    assert_eq!(ids(&claim.await.unwrap()), ["a4"], "a settlement wakes who waits");
}

async fn what_is_given_back_keeps_its_place_in_its_group(store: Arc<dyn Store>, _: Load) {
    store
        .commit(events([grouped("1", "a"), grouped("2", "a")]))
        .await
        .unwrap();
    let first = claim_all(&*store, "q").await;
    store.unclaim(&receipts(&first)).await.unwrap();
    let again = claim_all(&*store, "q").await;
    assert_eq!(ids(&again), ["1"]);
    store.commit(settle(receipts(&again))).await.unwrap();
    assert_eq!(ids(&claim_all(&*store, "q").await), ["2"]);
}

async fn what_is_deferred_comes_again_in_its_place(store: Arc<dyn Store>, load: Load) {
    let all = [grouped("a1", "a"), grouped("a2", "a"), grouped("b1", "b")];
    store.commit(events(all)).await.unwrap();
    let held = claim_all(&*store, "q").await;
    let due = now_ms() + load.moment;
    store.commit(defer(&held[0], due)).await.unwrap();
    assert!(is_lost(&store.commit(settle([held[0].receipt.clone()])).await));
    assert_eq!(store.depth("q").await.unwrap(), Depth { ready: 2, delayed: 1 });
    store.commit(settle([held[1].receipt.clone()])).await.unwrap();
    let again = store.claim("q", 10, LONG).await.unwrap();
    assert!(now_ms() >= due, "held back until its time");
    assert_eq!((ids(&again), again[0].attempt), (vec!["a1".to_owned()], 2));
    store.commit(settle(receipts(&again))).await.unwrap();
    assert_eq!(ids(&claim_all(&*store, "q").await), ["a2"]);
}

async fn a_deferral_is_part_of_its_unit(store: Arc<dyn Store>, _: Load) {
    store.commit(events([grouped("1", "a")])).await.unwrap();
    let held = claim_all(&*store, "q").await;
    let refused = Unit {
        state: vec![StateWrite {
            condition: Condition::Version(7),
            ..put("t", "k", "1")
        }],
        ..defer(&held[0], 0)
    };
    assert!(is_conflict(&store.commit(refused).await, "t", "k"));
    assert!(is_dry(&*store, "q").await, "it is still held");
    let kept = Unit {
        state: vec![put("t", "k", "1")],
        ..defer(&held[0], 0)
    };
    store.commit(kept).await.unwrap();
    assert_eq!(value(&*store, "t", "k").await.as_deref(), Some("1"));
    assert_eq!(claim_all(&*store, "q").await[0].attempt, 2);
}

async fn a_held_back_event_enters_its_group_when_its_time_comes(store: Arc<dyn Store>, load: Load) {
    let late = Enqueue {
        not_before: Some(now_ms() + load.moment),
        ..grouped("late", "a")
    };
    store.commit(events([late, grouped("1", "a")])).await.unwrap();
    let first = claim_all(&*store, "q").await;
    assert_eq!(ids(&first), ["1"]);
    store.commit(settle(receipts(&first))).await.unwrap();
    let late = store.claim("q", 10, LONG).await.unwrap();
    assert_eq!(
        (ids(&late), late[0].group),
        (vec!["late".to_owned()], Some(Group::of(b"a")))
    );
}

async fn a_large_backlog_of_one_group_holds_up_no_other(store: Arc<dyn Store>, load: Load) {
    let size = 10 * load.hundreds;
    for chunk in 0..20 {
        let some = (0..size).map(|n| grouped(&format!("{:05}", chunk * size + n), "hot"));
        store.commit(events(some)).await.unwrap();
    }
    store.commit(events([grouped("other", "cold")])).await.unwrap();
    let held = store.claim("q", 1, LONG).await.unwrap();
    assert_eq!(ids(&held), ["00000"]);
    assert_eq!(ids(&store.claim("q", 10, LONG).await.unwrap()), ["other"]);
    assert_eq!(store.depth("q").await.unwrap().ready, 20 * size as u64 + 1);
    let mut held = held;
    for expected in 1..4 * load.hundreds {
        store.commit(settle(receipts(&held))).await.unwrap();
        held = store.claim("q", 10, LONG).await.unwrap();
        assert_eq!(ids(&held), [format!("{expected:05}")]);
    }
}

async fn an_older_receipt_does_not_touch_a_later_delivery(store: Arc<dyn Store>, _: Load) {
    store.commit(events([enqueue("q", "1")])).await.unwrap();
    let older = receipts(&claim_all(&*store, "q").await);
    store.unclaim(&older).await.unwrap();
    let later = receipts(&claim_all(&*store, "q").await);
    store.unclaim(&older).await.unwrap();
    assert!(is_dry(&*store, "q").await);
    assert!(is_lost(&store.commit(settle(older)).await));
    store.commit(settle(later)).await.unwrap();
}
