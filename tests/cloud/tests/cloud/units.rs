//! Units that a transaction does not take in, and units that their hosts did not finish.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_cloud::Cloud;
use tidegate_cloud_tests::Servers;
use tidegate_harness::until;
use tidegate_runtime::store::conformance::{enqueue, put};
use tidegate_runtime::store::{
    CommitError, Condition, Enqueue, Group, Order, Receipt, StateWrite, Store, Unit,
};

const LIMIT: Duration = Duration::from_secs(120);
const WAIT: Duration = Duration::from_secs(5);
/// More than a transaction takes.
const MANY: usize = 130;

async fn count(store: &Cloud, table: &str) -> Result<usize> {
    Ok(store
        .query(table, "", None, 1000, Order::Ascending)
        .await?
        .entries
        .len())
}

fn keys() -> impl Iterator<Item = String> {
    (0..MANY).map(|number| format!("{number:03}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_long_queue_is_is_told_without_reading_all_of_it() -> Result<()> {
    // In one group they are in one shard; and of them, SQS knows only the first.
    const LONG: usize = 1100;
    let servers = Servers::start().await?;
    let store = Cloud::open(servers.settings("long")).await?;
    let in_group = |number: usize| Enqueue {
        group: Some(Group::from_bytes([7; 16])),
        ..enqueue("q", &number.to_string())
    };
    store
        .commit(Unit {
            enqueue: (0..LONG).map(in_group).collect(),
            ..Unit::default()
        })
        .await?;
    let told = 1000..=LONG as u64;
    let depth = store.recent_depth("q").await?.ready;
    assert!(told.contains(&depth), "{depth}");
    let held = store.claim("q", 5, WAIT).await?;
    assert_eq!(held.len(), 1);
    let depth = store.depth("q").await?.ready;
    assert!(told.contains(&depth), "{depth}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_larger_than_a_transaction_is_there_as_a_whole() -> Result<()> {
    let servers = Servers::start().await?;
    let store = Cloud::open(servers.settings("large")).await?;
    let large = Unit {
        state: keys()
            .flat_map(|key| [put("t", &key, "1"), put("$t", &key, "1")])
            .collect(),
        enqueue: keys().map(|key| enqueue("q", &key)).collect(),
        ..Unit::default()
    };
    store.commit(large).await?;
    assert_eq!(
        (count(&store, "t").await?, count(&store, "$t").await?),
        (MANY, MANY)
    );
    assert_eq!(store.depth("q").await?.ready, MANY as u64);
    let mut seen = Vec::new();
    while seen.len() < MANY {
        let some = store.claim("q", MANY / 3, WAIT).await?;
        let settle: Vec<Receipt> = some.iter().map(|delivery| delivery.receipt.clone()).collect();
        seen.extend(some.iter().map(|delivery| delivery.event.id.clone()));
        store
            .commit(Unit {
                settle,
                ..Unit::default()
            })
            .await?;
    }
    assert_eq!(seen, keys().collect::<Vec<_>>());
    let bound = |key: String| StateWrite {
        condition: Condition::Absent,
        ..put("u", &key, "1")
    };
    let refused = store
        .commit(Unit {
            state: keys().map(bound).collect(),
            ..Unit::default()
        })
        .await;
    assert!(
        matches!(
            refused,
            Err(CommitError::TooLarge {
                found: MANY,
                allowed: 99
            })
        ),
        "{refused:?}"
    );
    assert_eq!(count(&store, "u").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_are_deleted_are_made_anew_with_all_of_their_events() -> Result<()> {
    let mut servers = Servers::start().await?;
    let store = Cloud::open(servers.settings("gone")).await?;
    let in_group = |id| Enqueue {
        group: Some(Group::from_bytes([7; 16])),
        ..enqueue("q", id)
    };
    store
        .commit(Unit {
            enqueue: vec![enqueue("q", "1"), in_group("2"), in_group("3")],
            ..Unit::default()
        })
        .await?;
    servers.stop_sqs().await?;
    servers.start_sqs().await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let delivery = until("the next event", LIMIT, async || {
            // A queue that is gone is told of, and made anew.
            Ok(store
                .claim("q", 1, WAIT)
                .await
                .ok()
                .and_then(|mut some| some.pop()))
        })
        .await?;
        seen.push(delivery.event.id.clone());
        store
            .commit(Unit {
                settle: vec![delivery.receipt],
                ..Unit::default()
            })
            .await?;
    }
    let place = |id: &str| seen.iter().position(|seen| seen == id);
    assert!(place("1").is_some() && place("2") < place("3"), "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_host_did_not_send_another_one_sends() -> Result<()> {
    let mut servers = Servers::start().await?;
    let (first, second) = (
        Cloud::open(servers.settings("left")).await?,
        Cloud::open(servers.settings("left")).await?,
    );
    servers.stop_sqs().await?;
    let unit = Unit {
        state: vec![put("t", "k", "1")],
        enqueue: vec![enqueue("q", "1")],
        ..Unit::default()
    };
    first
        .commit(unit)
        .await
        .context("it is committed, though nobody is told of its event")?;
    drop(first);
    assert_eq!(count(&second, "t").await?, 1);
    assert_eq!(second.depth("q").await?.ready, 1);
    servers.start_sqs().await?;
    let claimed = until("the sweep", LIMIT, async || {
        Ok(second.claim("q", 1, WAIT).await?.pop())
    })
    .await?;
    assert_eq!(claimed.event.id, "1");
    Ok(())
}
