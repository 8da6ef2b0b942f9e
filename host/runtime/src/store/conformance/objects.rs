//! What the contract says of objects.

use super::*;
use crate::store::ObjectMeta;

pub(super) async fn run(make: &impl AsyncFn() -> Fixture, load: Load) {
    run!(
        make,
        load,
        an_object_comes_back_with_its_metadata,
        bytes_are_read_from_anywhere,
        nothing_is_published_before_the_commit,
        an_open_reader_survives_overwrite_and_deletion,
        a_deleted_object_is_gone,
        conditions_go_by_the_sequencer,
        a_lost_receipt_publishes_nothing,
        staged_bytes_are_published_once,
        readers_and_overwrites_race_in_peace,
        large_objects_stream,
        empty_objects_are_objects,
        listings_go_by_prefix_in_pages,
        buckets_do_not_mix,
    );
}

const MD5_OF_HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

async fn an_object_comes_back_with_its_metadata(store: Arc<dyn Store>, _: Load) {
    let before = now_ms();
    let staged = stage(&*store, b"hello").await;
    assert_eq!((staged.size, staged.etag.as_str()), (5, MD5_OF_HELLO));
    let user = [("colour".to_string(), "blau".to_string())].into();
    let publication = Publication {
        content_type: Some("text/plain".into()),
        user,
        ..publication("b", "dir/ü \u{10ffff}", Some(staged))
    };
    store.commit(objects([publication.clone()])).await.unwrap();
    let meta = store.head("b", "dir/ü \u{10ffff}").await.unwrap().unwrap();
    assert!(meta.modified >= before && meta.modified <= now_ms() && meta.sequencer > 0);
    let expected = ObjectMeta {
        key: publication.key,
        size: 5,
        etag: MD5_OF_HELLO.into(),
        content_type: publication.content_type,
        modified: meta.modified,
        sequencer: meta.sequencer,
        user: publication.user,
    };
    assert_eq!(meta, expected);
    let reader = store.open("b", "dir/ü \u{10ffff}").await.unwrap().unwrap();
    assert_eq!(*reader.meta(), expected);
    assert_eq!(
        store.list("b", "dir/", None, 10).await.unwrap().entries,
        [expected]
    );
    assert!(store.head("b", "none").await.unwrap().is_none());
    assert!(store.open("b", "none").await.unwrap().is_none());
}

async fn bytes_are_read_from_anywhere(store: Arc<dyn Store>, _: Load) {
    publish(&*store, "k", b"0123456789").await;
    let reader = store.open("b", "k").await.unwrap().unwrap();
    for (offset, len, expected) in [
        (0, 10, "0123456789"),
        (3, 4, "3456"),
        (8, 100, "89"),
        (10, 1, ""),
        (u64::MAX, usize::MAX, ""),
        (5, 0, ""),
    ] {
        assert_eq!(
            reader.read_at(offset, len).await.unwrap(),
            expected,
            "{len} from {offset}"
        );
    }
}

async fn nothing_is_published_before_the_commit(store: Arc<dyn Store>, _: Load) {
    let mut writer = store.stage().await.unwrap();
    writer.write(Bytes::from_static(b"hel")).await.unwrap();
    writer.write(Bytes::from_static(b"lo")).await.unwrap();
    let staged = writer.finish().await.unwrap();
    assert_eq!(staged.etag, MD5_OF_HELLO);
    assert!(store.list("b", "", None, 10).await.unwrap().entries.is_empty());
    let reader = store.open_staged(&staged).await.unwrap();
    assert_eq!(
        (reader.meta().size, reader.meta().etag.as_str()),
        (5, MD5_OF_HELLO)
    );
    assert_eq!(reader.read_at(1, 3).await.unwrap(), "ell");
    let mut dropped = store.stage().await.unwrap();
    dropped.write(Bytes::from_static(b"x")).await.unwrap();
    drop(dropped);
    let unknown = Staged {
        blob: "../../etc/passwd".into(),
        ..staged
    };
    assert!(store.open_staged(&unknown).await.is_err());
    assert!(is_refused(
        &store
            .commit(objects([publication("b", "k", Some(unknown))]))
            .await
    ));
}

async fn an_open_reader_survives_overwrite_and_deletion(store: Arc<dyn Store>, _: Load) {
    publish(&*store, "k", b"one").await;
    let one = store.open("b", "k").await.unwrap().unwrap();
    publish(&*store, "k", b"two!").await;
    let two = store.open("b", "k").await.unwrap().unwrap();
    store
        .commit(objects([publication("b", "k", None)]))
        .await
        .unwrap();
    tokio::time::sleep(SHORT).await;
    assert_eq!(one.read_at(0, 10).await.unwrap(), "one");
    assert_eq!(two.read_at(0, 10).await.unwrap(), "two!");
    assert!(one.meta().sequencer < two.meta().sequencer);
}

async fn a_deleted_object_is_gone(store: Arc<dyn Store>, _: Load) {
    publish(&*store, "k", b"one").await;
    store
        .commit(objects([
            publication("b", "k", None),
            publication("b", "never was", None),
        ]))
        .await
        .unwrap();
    assert!(store.head("b", "k").await.unwrap().is_none());
    assert!(store.open("b", "k").await.unwrap().is_none());
    assert!(store.list("b", "", None, 10).await.unwrap().entries.is_empty());
}

async fn conditions_go_by_the_sequencer(store: Arc<dyn Store>, _: Load) {
    let when = async |condition, bytes: &[u8]| {
        let staged = stage(&*store, bytes).await;
        let publication = Publication {
            condition,
            ..publication("b", "k", Some(staged))
        };
        store.commit(objects([publication])).await
    };
    when(Condition::Absent, b"1").await.unwrap();
    assert!(is_conflict(
        &when(Condition::Absent, b"2").await,
        "objects:b",
        "k"
    ));
    let first = store.head("b", "k").await.unwrap().unwrap().sequencer;
    when(Condition::Version(first), b"3").await.unwrap();
    assert!(is_conflict(
        &when(Condition::Version(first), b"4").await,
        "objects:b",
        "k"
    ));
    assert_eq!(contents(&*store, "b", "k").await.as_deref(), Some(&b"3"[..]));
    let second = store.head("b", "k").await.unwrap().unwrap().sequencer;
    assert!(second > first);
    let delete = |version| Publication {
        condition: Condition::Version(version),
        ..publication("b", "k", None)
    };
    assert!(is_conflict(
        &store.commit(objects([delete(first)])).await,
        "objects:b",
        "k"
    ));
    store.commit(objects([delete(second)])).await.unwrap();
    assert!(is_conflict(
        &when(Condition::Version(second), b"5").await,
        "objects:b",
        "k"
    ));
    when(Condition::Absent, b"6").await.unwrap();
}

async fn a_lost_receipt_publishes_nothing(store: Arc<dyn Store>, _: Load) {
    publish(&*store, "k", b"old").await;
    let staged = stage(&*store, b"new").await;
    let lost = Receipt {
        queue: "q".into(),
        seq: 1,
        claim: 1,
    };
    let unit = Unit {
        settle: vec![lost],
        ..objects([publication("b", "k", Some(staged.clone()))])
    };
    assert!(is_lost(&store.commit(unit).await));
    assert_eq!(contents(&*store, "b", "k").await.as_deref(), Some(&b"old"[..]));
    store
        .commit(objects([publication("b", "k", Some(staged))]))
        .await
        .unwrap();
    assert_eq!(contents(&*store, "b", "k").await.as_deref(), Some(&b"new"[..]));
}

async fn staged_bytes_are_published_once(store: Arc<dyn Store>, _: Load) {
    let staged = stage(&*store, b"once").await;
    let twice = ["k", "l"].map(|key| publication("b", key, Some(staged.clone())));
    assert!(is_refused(&store.commit(objects(twice)).await));
    assert!(store.list("b", "", None, 10).await.unwrap().entries.is_empty());
    store
        .commit(objects([publication("b", "k", Some(staged.clone()))]))
        .await
        .unwrap();
    assert!(is_refused(
        &store.commit(objects([publication("b", "l", Some(staged))])).await
    ));
    store
        .commit(objects([publication("b", "l", None)]))
        .await
        .unwrap();
    assert_eq!(contents(&*store, "b", "k").await.as_deref(), Some(&b"once"[..]));
}

async fn readers_and_overwrites_race_in_peace(store: Arc<dyn Store>, load: Load) {
    publish(&*store, "k", b"00").await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for round in 1..2 * load.hundreds {
                publish(&*store, "k", format!("{round:02}").repeat(round).as_bytes()).await;
            }
        }
    });
    while !writer.is_finished() {
        let reader = store
            .open("b", "k")
            .await
            .unwrap()
            .expect("there is always an object");
        let bytes = reader.read_at(0, 1000).await.unwrap();
        assert_eq!(bytes.len() as u64, reader.meta().size);
        assert!(
            bytes.chunks(2).all(|pair| *pair == bytes[..2]),
            "bytes of two versions"
        );
        // A store that never waits must not starve the writer.
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

async fn large_objects_stream(store: Arc<dyn Store>, _: Load) {
    let chunk = |n: u64| {
        Bytes::from(
            (0..300_000u64)
                .map(|i| (i * 31 + n * 7 + (i >> 9)) as u8)
                .collect::<Vec<_>>(),
        )
    };
    let mut writer = store.stage().await.unwrap();
    for n in 0..40 {
        writer.write(chunk(n)).await.unwrap();
    }
    let staged = writer.finish().await.unwrap();
    assert_eq!(staged.size, 40 * 300_000);
    store
        .commit(objects([publication("b", "large", Some(staged))]))
        .await
        .unwrap();
    let reader = store.open("b", "large").await.unwrap().unwrap();
    for n in (0..40).rev() {
        assert!(
            reader.read_at(n * 300_000, 300_000).await.unwrap() == chunk(n),
            "chunk {n}"
        );
    }
    let across = reader.read_at(299_999, 2).await.unwrap();
    assert_eq!(across[..], [chunk(0)[299_999], chunk(1)[0]]);
}

async fn empty_objects_are_objects(store: Arc<dyn Store>, _: Load) {
    let staged = store.stage().await.unwrap().finish().await.unwrap();
    assert_eq!(
        (staged.size, staged.etag.as_str()),
        (0, "d41d8cd98f00b204e9800998ecf8427e")
    );
    store
        .commit(objects([publication("b", "empty/", Some(staged))]))
        .await
        .unwrap();
    assert_eq!(contents(&*store, "b", "empty/").await.as_deref(), Some(&b""[..]));
}

async fn listings_go_by_prefix_in_pages(store: Arc<dyn Store>, _: Load) {
    let names = ["a", "a/", "a/1", "a/10", "a/2", "b", "ÿ", "\u{10ffff}"];
    for name in names.iter().rev() {
        publish(&*store, name, name.as_bytes()).await;
    }
    for (prefix, limit) in [
        ("", 1),
        ("", 3),
        ("a/", 2),
        ("a/", 4),
        ("\u{10ffff}", 1),
        ("a", 1000),
    ] {
        let expected: Vec<&str> = names
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store.list("b", prefix, after.as_deref(), limit).await.unwrap();
            assert!(page.entries.len() <= limit && !page.entries.is_empty());
            seen.extend(page.entries.into_iter().map(|meta| meta.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "`{prefix}` by {limit}");
    }
    let page = store.list("b", "a/", Some("a/1"), 10).await.unwrap();
    assert_eq!(
        page.entries
            .iter()
            .map(|meta| meta.key.as_str())
            .collect::<Vec<_>>(),
        ["a/10", "a/2"]
    );
    assert!(
        store
            .list("b", "a/", Some("b"), 10)
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(store.list("b", "none", None, 10).await.unwrap().next.is_none());
}

async fn buckets_do_not_mix(store: Arc<dyn Store>, _: Load) {
    publish(&*store, "k", b"b").await;
    let staged = stage(&*store, b"bb").await;
    store
        .commit(objects([publication("bb", "k", Some(staged))]))
        .await
        .unwrap();
    store
        .commit(objects([publication("b", "k", None)]))
        .await
        .unwrap();
    assert_eq!(contents(&*store, "bb", "k").await.as_deref(), Some(&b"bb"[..]));
    assert!(store.list("b", "", None, 10).await.unwrap().entries.is_empty());
}
