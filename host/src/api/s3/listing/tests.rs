//! Listings over a store in memory.

use std::sync::Arc;

use tidegate_runtime::store::memory::Memory;
use tidegate_runtime::store::{Condition, Publication, Unit};

use super::*;

async fn store(keys: &[&str]) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    for key in keys {
        let mut stage = store.stage().await.unwrap();
        stage.write(bytes::Bytes::from_static(b"x")).await.unwrap();
        let publication = Publication {
            bucket: "b".into(),
            key: (*key).into(),
            staged: Some(stage.finish().await.unwrap()),
            content_type: None,
            user: Default::default(),
            condition: Condition::None,
        };
        store
            .commit(Unit {
                objects: vec![publication],
                ..Unit::default()
            })
            .await
            .unwrap();
    }
    store
}

/// All pages of a listing: folded prefixes and keys, in the order they came.
async fn pages(store: &dyn Store, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let listed = list(
            store,
            Asked {
                bucket: "b",
                prefix,
                delimiter,
                after,
                limit,
            },
        )
        .await
        .unwrap();
        let mut names: Vec<String> = listed
            .objects
            .into_iter()
            .map(|meta| meta.key)
            .chain(listed.prefixes)
            .collect();
        names.sort();
        pages.push(names);
        after = listed.next;
        if after.is_none() {
            return pages;
        }
    }
}

const KEYS: [&str; 7] = ["a", "d/1", "d/2", "d/e/3", "d0", "f/g/4", "z"];

#[tokio::test]
async fn names_fold_at_the_delimiter() {
    let store = store(&KEYS).await;
    assert_eq!(
        pages(&*store, "", Some("/"), 100).await,
        [["a", "d/", "d0", "f/", "z"]]
    );
    assert_eq!(
        pages(&*store, "d/", Some("/"), 100).await,
        [["d/1", "d/2", "d/e/"]]
    );
    assert_eq!(
        pages(&*store, "d", None, 100).await,
        [["d/1", "d/2", "d/e/3", "d0"]]
    );
}

#[tokio::test]
async fn every_page_size_gives_the_same_names_once() {
    let store = store(&KEYS).await;
    for limit in 1..6 {
        let pages = pages(&*store, "", Some("/"), limit).await;
        assert!(pages.iter().all(|page| page.len() <= limit), "{pages:?}");
        assert_eq!(pages.concat(), ["a", "d/", "d0", "f/", "z"], "limit {limit}");
    }
}

#[tokio::test]
async fn many_keys_under_one_prefix_are_stepped_over() {
    let keys: Vec<String> = (0..300)
        .map(|n| format!("many/{n:04}"))
        .chain(["next".to_owned()])
        .collect();
    let store = store(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(pages(&*store, "", Some("/"), 10).await, [["many/", "next"]]);
    assert_eq!(pages(&*store, "many/", Some("/"), 128).await.concat().len(), 300);
}

#[test]
fn names_that_xml_cannot_hold_are_encoded() {
    assert_eq!(percent_encoded("a b/ü\u{1}+.txt"), "a%20b/%C3%BC%01%2B.txt");
}

#[test]
fn a_token_reads_back_and_nonsense_is_refused() {
    assert_eq!(parse_token(&token_of("d/ü")).unwrap(), "d/ü");
    assert!(parse_token("%%%").is_err());
}
