//! What the contract says of commits and of state.

use super::*;
use crate::store::{Order, Page, Versioned};

pub(super) async fn run(make: &impl AsyncFn() -> Fixture, load: Load) {
    run!(
        make,
        load,
        a_commit_is_seen_by_every_read_after_it,
        an_empty_unit_commits,
        versions_grow_with_every_write,
        conditions_hold_or_the_commit_is_a_conflict,
        a_conflict_leaves_nothing,
        of_many_that_create_one_key_one_wins,
        concurrent_increments_are_all_counted,
        a_reader_sees_all_of_a_unit_or_nothing,
        a_key_that_was_read_before_it_came_and_after_it_went_is_seen_as_it_is,
        get_many_answers_in_the_order_of_the_keys,
        tables_do_not_mix,
        queries_go_by_prefix_in_byte_order,
        pages_join_to_the_whole,
        queries_beyond_the_ends_are_empty,
        large_values_come_back,
    );
}

async fn a_commit_is_seen_by_every_read_after_it(store: Arc<dyn Store>, load: Load) {
    for round in 0..load.hundreds {
        let text = round.to_string();
        store
            .commit(state([put("t", "k", &text), put("t", &text, "x")]))
            .await
            .unwrap();
        assert_eq!(value(&*store, "t", "k").await, Some(text));
        assert_eq!(
            keys(&store.query("t", "", None, 1000, Order::Ascending).await.unwrap()).len(),
            round + 2
        );
    }
    store
        .commit(state([delete("t", "k"), delete("t", "never was")]))
        .await
        .unwrap();
    assert_eq!(value(&*store, "t", "k").await, None);
    store.commit(state([put("t", "empty", "")])).await.unwrap();
    assert_eq!(value(&*store, "t", "empty").await.as_deref(), Some(""));
}

async fn an_empty_unit_commits(store: Arc<dyn Store>, _: Load) {
    store.commit(Unit::default()).await.unwrap();
}

async fn versions_grow_with_every_write(store: Arc<dyn Store>, _: Load) {
    let mut last = 0;
    for key in ["a", "b", "a", "a", "c"] {
        store.commit(state([put("t", key, "same")])).await.unwrap();
        let version = store.get("t", key).await.unwrap().unwrap().version;
        assert!(version > last, "version `{version}` after `{last}`");
        last = version;
    }
    store.commit(state([delete("t", "a")])).await.unwrap();
    store.commit(state([put("t", "a", "again")])).await.unwrap();
    assert!(store.get("t", "a").await.unwrap().unwrap().version > last);
}

async fn conditions_hold_or_the_commit_is_a_conflict(store: Arc<dyn Store>, _: Load) {
    let when = |condition, value| StateWrite {
        condition,
        ..put("t", "k", value)
    };
    store.commit(state([when(Condition::Absent, "1")])).await.unwrap();
    let first = store.get("t", "k").await.unwrap().unwrap().version;
    let again = store.commit(state([when(Condition::Absent, "2")])).await;
    assert!(is_conflict(&again, "t", "k"), "{again:?}");
    store
        .commit(state([when(Condition::Version(first), "3")]))
        .await
        .unwrap();
    let stale = store.commit(state([when(Condition::Version(first), "4")])).await;
    assert!(is_conflict(&stale, "t", "k"), "{stale:?}");
    assert_eq!(value(&*store, "t", "k").await.as_deref(), Some("3"));
    let second = store.get("t", "k").await.unwrap().unwrap().version;
    let wrong = store
        .commit(state([StateWrite {
            condition: Condition::Version(first),
            ..delete("t", "k")
        }]))
        .await;
    assert!(is_conflict(&wrong, "t", "k"), "{wrong:?}");
    store
        .commit(state([StateWrite {
            condition: Condition::Version(second),
            ..delete("t", "k")
        }]))
        .await
        .unwrap();
    let gone = store.commit(state([when(Condition::Version(second), "5")])).await;
    assert!(is_conflict(&gone, "t", "k"), "{gone:?}");
    store.commit(state([when(Condition::Absent, "6")])).await.unwrap();
}

async fn a_conflict_leaves_nothing(store: Arc<dyn Store>, _: Load) {
    store.commit(state([put("t", "taken", "1")])).await.unwrap();
    store.commit(events([enqueue("q", "one")])).await.unwrap();
    let claimed = claim_all(&*store, "q").await;
    let staged = stage(&*store, b"bytes").await;
    let unit = Unit {
        settle: receipts(&claimed),
        state: vec![
            put("t", "new", "1"),
            StateWrite {
                condition: Condition::Absent,
                ..put("t", "taken", "2")
            },
        ],
        objects: vec![publication("b", "o", Some(staged.clone()))],
        enqueue: vec![enqueue("q", "two"), enqueue("other", "three")],
        ..Unit::default()
    };
    assert!(is_conflict(&store.commit(unit.clone()).await, "t", "taken"));
    assert_eq!(value(&*store, "t", "new").await, None);
    assert_eq!(value(&*store, "t", "taken").await.as_deref(), Some("1"));
    assert!(store.head("b", "o").await.unwrap().is_none());
    assert!(is_dry(&*store, "q").await && is_dry(&*store, "other").await);
    assert_eq!(
        store.depth("q").await.unwrap().ready,
        1,
        "the claimed event stays claimed"
    );
    let unit = Unit {
        state: vec![put("t", "new", "1")],
        ..unit
    };
    store.commit(unit).await.unwrap();
    assert_eq!(contents(&*store, "b", "o").await.as_deref(), Some(&b"bytes"[..]));
    assert_eq!(ids(&claim_all(&*store, "q").await), ["two"]);
}

async fn of_many_that_create_one_key_one_wins(store: Arc<dyn Store>, _: Load) {
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let create = StateWrite {
                    condition: Condition::Absent,
                    ..put("t", "k", &n.to_string())
                };
                store
                    .commit(state([create, put("t", &format!("mark-{n}"), "")]))
                    .await
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            lost => assert!(is_conflict(&lost, "t", "k"), "{lost:?}"),
        }
    }
    let marks = store
        .query("t", "mark-", None, 100, Order::Ascending)
        .await
        .unwrap();
    assert_eq!((won, marks.entries.len()), (1, 1));
}

async fn concurrent_increments_are_all_counted(store: Arc<dyn Store>, _: Load) {
    store.commit(state([put("t", "n", "0")])).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    increment(&*store).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(value(&*store, "t", "n").await.as_deref(), Some("80"));
}

async fn increment(store: &dyn Store) {
    loop {
        let Versioned { value, version } = store.get("t", "n").await.unwrap().unwrap();
        let next = std::str::from_utf8(&value).unwrap().parse::<u64>().unwrap() + 1;
        let write = StateWrite {
            condition: Condition::Version(version),
            ..put("t", "n", &next.to_string())
        };
        match store.commit(state([write])).await {
            Ok(()) => return,
            conflict => assert!(is_conflict(&conflict, "t", "n"), "{conflict:?}"),
        }
    }
}

async fn a_reader_sees_all_of_a_unit_or_nothing(store: Arc<dyn Store>, load: Load) {
    let names: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let writer = {
        let (store, names) = (store.clone(), names.clone());
        tokio::spawn(async move {
            for round in 0..2 * load.hundreds {
                let text = round.to_string();
                store
                    .commit(state(names.iter().map(|name| put("t", name, &text))))
                    .await
                    .unwrap();
            }
        })
    };
    while !writer.is_finished() {
        let seen = store.get_many("t", &names).await.unwrap();
        let first = seen[0].as_ref().map(|found| &found.value);
        assert!(
            seen.iter()
                .all(|other| other.as_ref().map(|found| &found.value) == first),
            "half a unit"
        );
        let page = store.query("t", "k", None, 20, Order::Ascending).await.unwrap();
        assert!(
            page.entries
                .windows(2)
                .all(|pair| pair[0].1.value == pair[1].1.value),
            "half a unit"
        );
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

async fn a_key_that_was_read_before_it_came_and_after_it_went_is_seen_as_it_is(
    store: Arc<dyn Store>,
    _: Load,
) {
    for _ in 0..20 {
        assert_eq!(value(&*store, "t", "k").await, None);
        store.commit(state([put("t", "k", "here")])).await.unwrap();
        assert_eq!(value(&*store, "t", "k").await.as_deref(), Some("here"));
        assert_eq!(value(&*store, "t", "k").await.as_deref(), Some("here"));
        store.commit(state([delete("t", "k")])).await.unwrap();
    }
}

async fn get_many_answers_in_the_order_of_the_keys(store: Arc<dyn Store>, _: Load) {
    store
        .commit(state([put("t", "a", "1"), put("t", "b", "2")]))
        .await
        .unwrap();
    let keys = ["b", "none", "a", "b"].map(String::from);
    let found = store.get_many("t", &keys).await.unwrap();
    let found: Vec<_> = found
        .into_iter()
        .map(|found| found.map(|found| found.value))
        .collect();
    let [one, two] = [Bytes::from_static(b"1"), Bytes::from_static(b"2")];
    assert_eq!(found, [Some(two.clone()), None, Some(one), Some(two)]);
    assert!(store.get_many("t", &[]).await.unwrap().is_empty());
}

async fn tables_do_not_mix(store: Arc<dyn Store>, _: Load) {
    store
        .commit(state([
            put("t", "abc", "1"),
            put("ta", "bc", "2"),
            put("$t", "abc", "3"),
        ]))
        .await
        .unwrap();
    assert_eq!(value(&*store, "t", "abc").await.as_deref(), Some("1"));
    assert_eq!(value(&*store, "ta", "bc").await.as_deref(), Some("2"));
    for (table, count) in [("t", 1), ("ta", 1), ("$t", 1), ("tab", 0), ("", 0)] {
        let page = store.query(table, "", None, 10, Order::Ascending).await.unwrap();
        assert_eq!(page.entries.len(), count, "table `{table}`");
    }
}

const KEYS: [&str; 12] = [
    "",
    "a",
    "a\0",
    "a/",
    "a/1",
    "a/10",
    "a/2",
    "ab",
    "b",
    "ÿ",
    "\u{ffff}",
    "\u{10ffff}\u{10ffff}",
];

async fn fill(store: &dyn Store) {
    store
        .commit(state(KEYS.iter().rev().map(|key| put("t", key, key))))
        .await
        .unwrap();
    store
        .commit(state([put("s", "a/", "before"), put("u", "a/", "after")]))
        .await
        .unwrap();
}

fn keys(page: &Page<(String, Versioned)>) -> Vec<&str> {
    page.entries.iter().map(|(key, _)| key.as_str()).collect()
}

async fn queries_go_by_prefix_in_byte_order(store: Arc<dyn Store>, _: Load) {
    fill(&*store).await;
    for prefix in ["", "a", "a/", "a/1", "b", "ÿ", "\u{10ffff}", "none"] {
        let mut expected: Vec<&str> = KEYS.into_iter().filter(|key| key.starts_with(prefix)).collect();
        let up = store
            .query("t", prefix, None, 100, Order::Ascending)
            .await
            .unwrap();
        assert_eq!(
            (keys(&up), up.next.as_deref()),
            (expected.clone(), None),
            "prefix `{prefix}`"
        );
        expected.reverse();
        let down = store
            .query("t", prefix, None, 100, Order::Descending)
            .await
            .unwrap();
        assert_eq!(
            (keys(&down), down.next.as_deref()),
            (expected, None),
            "prefix `{prefix}` down"
        );
    }
    let page = store.query("t", "a/", None, 100, Order::Ascending).await.unwrap();
    assert!(
        page.entries
            .iter()
            .all(|(key, found)| key.as_bytes() == found.value && found.version > 0)
    );
}

async fn pages_join_to_the_whole(store: Arc<dyn Store>, _: Load) {
    fill(&*store).await;
    for (prefix, limit, order) in [
        ("", 1, Order::Ascending),
        ("", 5, Order::Descending),
        ("a", 6, Order::Ascending),
        ("a", 7, Order::Descending),
        ("a/", 3, Order::Ascending),
        ("", 100, Order::Descending),
    ] {
        let mut expected: Vec<&str> = KEYS.into_iter().filter(|key| key.starts_with(prefix)).collect();
        if order == Order::Descending {
            expected.reverse();
        }
        let (mut seen, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = store
                .query("t", prefix, after.as_deref(), limit, order)
                .await
                .unwrap();
            assert!(
                page.entries.len() <= limit && !page.entries.is_empty(),
                "`{prefix}` by {limit}"
            );
            seen.extend(keys(&page).into_iter().map(String::from));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "`{prefix}` by {limit}");
    }
}

async fn queries_beyond_the_ends_are_empty(store: Arc<dyn Store>, _: Load) {
    fill(&*store).await;
    let ask = async |prefix: &'static str, after: &'static str, order: Order| {
        let page = store.query("t", prefix, Some(after), 100, order).await.unwrap();
        page.entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(ask("a/", "zzz", Order::Ascending).await, [""; 0]);
    assert_eq!(ask("a/", "a", Order::Descending).await, [""; 0]);
    assert_eq!(ask("a/", "a/", Order::Descending).await, [""; 0]);
    assert_eq!(
        ask("a/", "", Order::Ascending).await,
        ["a/", "a/1", "a/10", "a/2"]
    );
    assert_eq!(
        ask("a/", "zzz", Order::Descending).await,
        ["a/2", "a/10", "a/1", "a/"]
    );
    assert_eq!(ask("a/", "a/1", Order::Ascending).await, ["a/10", "a/2"]);
    assert_eq!(
        ask("a/", "a/11", Order::Descending).await,
        ["a/10", "a/1", "a/"],
        "`after` need not exist"
    );
    let nothing = store.query("t", "", None, 0, Order::Ascending).await.unwrap();
    assert!(nothing.entries.is_empty() && nothing.next.is_none());
}

async fn large_values_come_back(store: Arc<dyn Store>, _: Load) {
    let large = "0123456789abcdef".repeat(64 * 1024);
    store.commit(state([put("t", "large", &large)])).await.unwrap();
    assert!(value(&*store, "t", "large").await.as_deref() == Some(&large));
}
