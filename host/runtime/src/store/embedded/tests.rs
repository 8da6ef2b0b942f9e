//! The embedded store keeps the contract, also across restarts and crashes.

mod backup;
mod crash;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::opening::{FORMAT_KEY, published_blobs};
use super::*;
use crate::store::conformance::{self, enqueue, publication, put, stage};
use crate::store::{Deferral, Enqueue, Group};

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir).unwrap()
}

/// Every file under `blobs`.
fn blobs(dir: &Path) -> Vec<String> {
    let shards = fs::read_dir(dir.join("blobs")).unwrap();
    let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries
        .iter()
        .map(|delivery| delivery.event.id.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_keeps_the_contract() {
    let make = async || {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(open(dir.path())) as Arc<dyn Store>;
        (store, Box::new(dir) as conformance::Guard)
    };
    conformance::run_all(make, conformance::Load::LOCAL).await;
}

#[tokio::test]
async fn everything_is_there_after_a_drop_without_close() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let staged = stage(&store, b"bytes").await;
    let now = SystemClock.now_ms();
    let unit = Unit {
        state: vec![put("t", "k", "v")],
        objects: vec![publication("b", "o", Some(staged))],
        enqueue: vec![
            enqueue("q", "claimed"),
            Enqueue {
                attempt: 4,
                ..enqueue("q", "waiting")
            },
            Enqueue {
                not_before: Some(now + 400),
                ..enqueue("q", "delayed")
            },
            enqueue("q", "settled"),
        ],
        ..Unit::default()
    };
    store.commit(unit).await.unwrap();
    let claimed = store.claim("q", 10, Duration::ZERO).await.unwrap();
    assert_eq!(ids(&claimed), ["claimed", "waiting", "settled"]);
    store
        .commit(Unit {
            settle: vec![claimed[2].receipt.clone()],
            ..Unit::default()
        })
        .await
        .unwrap();
    let version = store.get("t", "k").await.unwrap().unwrap().version;
    drop(store);

    let store = open(dir.path());
    assert_eq!(
        store.get("t", "k").await.unwrap().unwrap(),
        Versioned {
            value: "v".into(),
            version
        }
    );
    assert_eq!(store.depth("q").await.unwrap(), Depth { ready: 2, delayed: 1 });
    let lost = store
        .commit(Unit {
            settle: vec![claimed[0].receipt.clone()],
            ..Unit::default()
        })
        .await;
    assert!(matches!(lost, Err(CommitError::Lost { .. })));
    let again = store.claim("q", 10, Duration::ZERO).await.unwrap();
    assert_eq!((ids(&again), again[1].attempt), (vec!["claimed", "waiting"], 4));
    let delayed = store.claim("q", 10, Duration::from_secs(5)).await.unwrap();
    assert_eq!(ids(&delayed), ["delayed"]);
    let reader = store.open("b", "o").await.unwrap().unwrap();
    assert_eq!(reader.read_at(0, 10).await.unwrap(), "bytes");
    store
        .commit(Unit {
            state: vec![put("t", "k", "w")],
            ..Unit::default()
        })
        .await
        .unwrap();
    assert!(store.get("t", "k").await.unwrap().unwrap().version > version);
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let refused = Embedded::open(dir.path()).err().unwrap();
    assert_eq!(
        refused.to_string(),
        format!("another tidegate uses `{}`", dir.path().display())
    );
    drop(store);
    open(dir.path());
}

#[tokio::test]
async fn a_folder_of_another_layout_is_refused() {
    let dir = TempDir::new().unwrap();
    {
        let store = open(dir.path());
        store.core.meta.insert(FORMAT_KEY, 9u64.to_be_bytes()).unwrap();
    }
    let refused = Embedded::open(dir.path()).err().unwrap();
    assert_eq!(
        refused.to_string(),
        format!("`{}` has layout 9, this tidegate reads 1", dir.path().display())
    );
}

#[tokio::test]
async fn a_closed_store_refuses_commits() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.close();
    store.close();
    let refused = store
        .commit(Unit {
            state: vec![put("t", "k", "v")],
            ..Unit::default()
        })
        .await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "store unavailable: the store is closed"
    );
}

#[tokio::test]
async fn blobs_are_on_disk_only_while_something_needs_them() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut dropped = store.stage().await.unwrap();
    dropped.write(vec![7; 3 << 20].into()).await.unwrap();
    assert_eq!(blobs(dir.path()).len(), 1);
    drop(dropped);
    assert!(blobs(dir.path()).is_empty(), "dropped, it is removed");
    for bytes in [b"one", b"two"] {
        let staged = stage(&store, bytes).await;
        store
            .commit(Unit {
                objects: vec![publication("b", "k", Some(staged))],
                ..Unit::default()
            })
            .await
            .unwrap();
    }
    let never_published = stage(&store, b"x").await;
    store.core.blobs.remove("not a blob");
    store.close();
    assert_eq!(blobs(dir.path()).len(), 2, "overwritten, it is removed");
    drop(store);
    let store = open(dir.path());
    assert_eq!(blobs(dir.path()).len(), 1, "a start sweeps what nothing names");
    assert!(store.open_staged(&never_published).await.is_err());
    assert_eq!(
        store
            .open("b", "k")
            .await
            .unwrap()
            .unwrap()
            .read_at(0, 3)
            .await
            .unwrap(),
        "two"
    );
    let next = stage(&store, b"y").await;
    assert_ne!(next.blob, never_published.blob, "names are never given twice");
}

#[tokio::test]
async fn names_and_keys_that_cannot_be_stored_are_refused() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let refused = store
        .commit(Unit {
            state: vec![put("t\0u", "k", "v")],
            ..Unit::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "store unavailable: the name `t\\0u` has a zero byte, none is allowed"
    );
    let long = "k".repeat(70_000);
    let refused = store
        .commit(Unit {
            state: vec![put("t", &long, "v")],
            ..Unit::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "store unavailable: a key of 70000 bytes, at most 32768 are allowed"
    );
    assert!(store.get("t", &long).await.is_err());
    assert!(store.query("t", &long, None, 1, Order::Ascending).await.is_err());
    assert!(store.head("b", &long).await.is_err());
    store
        .commit(Unit {
            state: vec![put("t", &long[..32_768], "v")],
            ..Unit::default()
        })
        .await
        .unwrap();
    assert!(store.get("t", &long[..32_768]).await.unwrap().is_some());
}

#[tokio::test]
async fn ten_thousand_idle_claims_are_cheap() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(open(dir.path()));
    let claims: Vec<_> = (0..10_000)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .claim(&format!("q{n}"), 1, Duration::from_secs(60))
                    .await
                    .unwrap()
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let started = std::time::Instant::now();
    for n in 0..20 {
        store
            .commit(Unit {
                enqueue: vec![enqueue(&format!("q{n}"), "e")],
                ..Unit::default()
            })
            .await
            .unwrap();
    }
    let took = started.elapsed();
    for claim in &claims[20..] {
        claim.abort();
    }
    for claim in claims.into_iter().take(20) {
        assert_eq!(claim.await.unwrap().len(), 1);
    }
    assert!(
        took < Duration::from_secs(5),
        "20 commits took {took:?} beside idle queues"
    );
}

#[tokio::test]
async fn a_group_keeps_its_order_and_its_deferral_across_a_restart() {
    let grouped = |id: &str, group: &[u8]| Enqueue {
        group: Some(Group::of(group)),
        ..enqueue("q", id)
    };
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let enqueue = vec![
        grouped("a1", b"a"),
        grouped("a2", b"a"),
        grouped("b1", b"b"),
        grouped("b2", b"b"),
    ];
    store
        .commit(Unit {
            enqueue,
            ..Unit::default()
        })
        .await
        .unwrap();
    let claimed = store.claim("q", 10, Duration::ZERO).await.unwrap();
    assert_eq!(ids(&claimed), ["a1", "b1"]);
    let due = SystemClock.now_ms() + 400;
    let defer = vec![Deferral {
        receipt: claimed[0].receipt.clone(),
        not_before: due,
        attempt: 2,
    }];
    store
        .commit(Unit {
            defer,
            ..Unit::default()
        })
        .await
        .unwrap();
    drop(store);

    let store = open(dir.path());
    let claimed = store.claim("q", 10, Duration::ZERO).await.unwrap();
    assert_eq!(ids(&claimed), ["b1"]);
    assert_eq!(store.depth("q").await.unwrap(), Depth { ready: 3, delayed: 1 });
    let again = store.claim("q", 10, Duration::from_secs(20)).await.unwrap();
    assert!(SystemClock.now_ms() >= due, "held back until its time");
    assert_eq!((ids(&again), again[0].attempt), (vec!["a1"], 2));
    let settle = vec![again[0].receipt.clone()];
    store
        .commit(Unit {
            settle,
            ..Unit::default()
        })
        .await
        .unwrap();
    assert_eq!(ids(&store.claim("q", 10, Duration::ZERO).await.unwrap()), ["a2"]);
}

#[tokio::test]
async fn old_done_markers_are_forgotten() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let marker = |n: u64| {
        let value = Some(bytes::Bytes::copy_from_slice(&n.to_be_bytes()));
        crate::store::StateWrite {
            value,
            ..put(crate::effects::DONE, &format!("f/{n:04}"), "")
        }
    };
    let state = (0..1000)
        .map(marker)
        .chain([put("other", "k", "v"), put(crate::effects::DONE, "odd", "")])
        .collect();
    store
        .commit(Unit {
            state,
            ..Unit::default()
        })
        .await
        .unwrap();
    let (core, requests) = (store.core.clone(), store.requests.clone());
    let forget = move || {
        let never = CancellationToken::new();
        janitor::forget(&janitor::DONE_MARKERS, &core, &requests, &never, 700)
    };
    assert_eq!(tokio::task::spawn_blocking(forget).await.unwrap().unwrap(), 700);
    let left = store
        .query(crate::effects::DONE, "", None, 1000, Order::Ascending)
        .await
        .unwrap();
    assert_eq!((left.entries.len(), left.entries[0].0.as_str()), (301, "f/0700"));
    assert!(store.get("other", "k").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_forgotten_by_the_time_of_their_invocation() {
    let keys = [
        "01A/00000000000699/f/e/1/1",
        "01A/00000000000700/f/e/1/1",
        "01B/odd",
    ];
    let left = left_after(700, &janitor::LOG_LINES, crate::records::LOGS, &keys).await;
    assert_eq!(left, &keys[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_requests_are_forgotten_by_the_time_in_their_ids() {
    let ids = [699, 700].map(|at| ulid::Ulid::from_parts(at, 7).to_string());
    let keys = [ids[0].as_str(), ids[1].as_str(), "odd"];
    let left = left_after(700, &janitor::REQUEST_RECORDS, crate::records::REQUESTS, &keys).await;
    assert_eq!(left, &keys[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_forgotten_by_their_beginning_and_steps_by_their_end() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let rows = [
        ("r/old", r#"{"run":"old","started":699}"#),
        ("r/young", r#"{"run":"young","started":700}"#),
        ("s/old/e/ended", r#"{"queued":1,"started":2,"finished":699}"#),
        ("s/old/e/late", r#"{"queued":1,"started":2,"finished":700}"#),
        (
            "s/old/e/waits",
            r#"{"queued":701,"started":null,"finished":null}"#,
        ),
    ];
    let state = rows
        .iter()
        .map(|(key, value)| put(crate::records::RUNS, key, value))
        .collect();
    store
        .commit(Unit {
            state,
            ..Unit::default()
        })
        .await
        .unwrap();
    let left = forgotten(&store, &janitor::RUN_ROWS, crate::records::RUNS, 700).await;
    assert_eq!(left, ["r/young", "s/old/e/late", "s/old/e/waits"]);
}

/// The keys of a table, one of which is of before `time`, when the janitor has been there.
async fn left_after(time: u64, aging: &'static janitor::Aging, table: &str, keys: &[&str]) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let state = keys.iter().map(|key| put(table, key, "[]")).collect();
    store
        .commit(Unit {
            state,
            ..Unit::default()
        })
        .await
        .unwrap();
    forgotten(&store, aging, table, time).await
}

/// The keys of a table when the janitor has been there.
async fn forgotten(store: &Embedded, aging: &'static janitor::Aging, table: &str, time: u64) -> Vec<String> {
    let (core, requests) = (store.core.clone(), store.requests.clone());
    let forget = move || {
        let never = CancellationToken::new();
        janitor::forget(aging, &core, &requests, &never, time)
    };
    tokio::task::spawn_blocking(forget).await.unwrap().unwrap();
    let left = store.query(table, "", None, 10, Order::Ascending).await.unwrap();
    left.entries.into_iter().map(|(key, _)| key).collect()
}
