//! A store that is made of a moment of another one goes on from there.

use super::*;
use crate::store::{Extent, Frozen, Part, Refill};

/// All of a moment.
async fn all(frozen: &mut dyn Frozen) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(part) = frozen.next().await.unwrap() {
        parts.push(part);
    }
    parts
}

/// Makes a store of a moment, by way of files.
async fn pour(frozen: &dyn Frozen, parts: Vec<Part>, mut into: Box<dyn Refill>, scratch: &Path) {
    for part in parts {
        into.rows(part.rows).await.unwrap();
        for name in part.blobs {
            let blob = frozen.blob(&name).await.unwrap();
            let bytes = blob.read_at(0, usize::MAX).await.unwrap();
            let file = scratch.join(&name);
            fs::write(&file, [b"before", &bytes[..], b"after"].concat()).unwrap();
            let bytes = Extent {
                file: &file,
                offset: 6,
                len: bytes.len() as u64,
            };
            into.blob(&name, bytes).await.unwrap();
        }
    }
    into.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_is_the_other_one_as_after_a_crash_at_that_moment() {
    let dir = TempDir::new().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let store = open(&old);
    let staged = stage(&store, b"as it was").await;
    let before = Unit {
        state: vec![put("t", "k", "v")],
        objects: vec![publication("b", "o", Some(staged))],
        enqueue: vec![
            enqueue("q", "claimed"),
            enqueue("q", "waiting"),
            Enqueue {
                not_before: Some(1),
                ..enqueue("q", "delayed")
            },
        ],
        ..Unit::default()
    };
    store.commit(before).await.unwrap();
    let claimed = store.claim("q", 1, Duration::ZERO).await.unwrap();
    let mut frozen = store.freeze().await.unwrap().unwrap();

    let staged = stage(&store, b"as it is").await;
    let after = Unit {
        settle: claimed.iter().map(|delivery| delivery.receipt.clone()).collect(),
        state: vec![put("t", "k", "later")],
        objects: vec![publication("b", "o", Some(staged))],
        ..Unit::default()
    };
    store.commit(after).await.unwrap();
    let parts = all(frozen.as_mut()).await;
    pour(frozen.as_ref(), parts, refill(&new).unwrap(), dir.path()).await;

    let restored = open(&new);
    let value = restored.get("t", "k").await.unwrap().unwrap();
    assert_eq!(&value.value[..], b"v");
    let object = restored.open("b", "o").await.unwrap().unwrap();
    assert_eq!(&object.read_at(0, 100).await.unwrap()[..], b"as it was");
    let again = restored.claim("q", 10, Duration::from_secs(5)).await.unwrap();
    let mut ids = ids(&again);
    ids.sort_unstable();
    assert_eq!(ids, ["claimed", "delayed", "waiting"]);
    restored
        .commit(Unit {
            state: vec![put("t", "k", "on")],
            ..Unit::default()
        })
        .await
        .unwrap();
    let on = restored.get("t", "k").await.unwrap().unwrap();
    assert!(on.version > value.version, "versions go on growing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_while_somebody_reads_a_moment_is_removed_after() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let publish = async |bytes: &[u8]| {
        let staged = stage(&store, bytes).await;
        let objects = vec![publication("b", "o", Some(staged))];
        store
            .commit(Unit {
                objects,
                ..Unit::default()
            })
            .await
            .unwrap();
    };
    publish(b"first").await;
    let frozen = store.freeze().await.unwrap().unwrap();
    publish(b"second").await;
    publish(b"third").await;
    drop(frozen);
    for _ in 0..1000 {
        if blobs(dir.path()).len() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("blobs are left: {:?}", blobs(dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unit_is_in_a_moment_as_a_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(open(dir.path()));
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for number in 0.. {
            let value = number.to_string();
            let state = vec![put("a", "k", &value), put("z", "k", &value)];
            let enqueue = vec![enqueue("q", &value)];
            if writer
                .commit(Unit {
                    state,
                    enqueue,
                    ..Unit::default()
                })
                .await
                .is_err()
            {
                return;
            }
        }
    });
    for round in 0..3 {
        let new = dir.path().join(format!("new-{round}"));
        let mut frozen = store.freeze().await.unwrap().unwrap();
        let parts = all(frozen.as_mut()).await;
        pour(frozen.as_ref(), parts, refill(&new).unwrap(), dir.path()).await;
        let restored = open(&new);
        let values = [
            restored.get("a", "k").await.unwrap(),
            restored.get("z", "k").await.unwrap(),
        ];
        let values = values.map(|found| found.map(|found| found.value));
        assert_eq!(values[0], values[1]);
        let units = values[0].as_ref().map_or(0, |last| {
            1 + std::str::from_utf8(last).unwrap().parse::<u64>().unwrap()
        });
        assert_eq!(restored.depth("q").await.unwrap().ready, units);
    }
    store.close();
    writing.await.unwrap();
}

#[tokio::test]
async fn a_restore_that_was_broken_off_begins_again_and_one_over_a_store_is_refused() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("store");
    let mut broken_off = refill(&place).unwrap();
    broken_off
        .rows(vec![r#"{"in":"state","key":"AA==","value":"AA=="}"#.into()])
        .await
        .unwrap();
    drop(broken_off);
    assert!(!place.exists(), "nobody takes what is not whole for a store");
    let mut again = refill(&place).unwrap();
    let refused = again
        .rows(vec![r#"{"in":"../x","key":"","value":""}"#.into()])
        .await;
    assert!(refused.unwrap_err().to_string().contains("known are"));
    again.finish().await.unwrap();
    let taken = refill(&place).err().map(|error| error.to_string());
    assert!(taken.unwrap().contains("is not empty"));
}
