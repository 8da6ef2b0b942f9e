//! Calls that get lost on their way to the services, and services that are cut off for a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use tidegate_cloud::{Cloud, Settings};
use tidegate_cloud_tests::{Lost, Servers, Weather};
use tidegate_harness::until;
use tidegate_runtime::store::conformance::{enqueue, put};
use tidegate_runtime::store::{
    CommitError, Condition, Delivery, Order, Publication, StateWrite, Store, Unit,
};

const LIMIT: Duration = Duration::from_secs(120);
const WAIT: Duration = Duration::from_secs(2);
/// Events of the first queue; with what follows from them, more than one transaction takes.
const EVENTS: usize = 2;
const ROWS: usize = 120;
/// Stories that are played at one time.
const AT_ONCE: usize = 6;

/// A write that tells whether its unit is there, and lets it be there once.
fn mark(unit: &str) -> StateWrite {
    StateWrite {
        condition: Condition::Absent,
        ..put("$done", unit, "1")
    }
}

/// Commits a unit; one whose commit fails is there as a whole or not at all, and then it is tried again.
async fn commit(store: &Cloud, unit: &str, make: impl Fn() -> Unit) -> Result<()> {
    until("a commit", LIMIT, async || {
        let failed = match store.commit(make()).await {
            Ok(()) => return Ok(Some(())),
            Err(failed) => failed,
        };
        let there = store.get("$done", unit).await?.is_some();
        ensure!(
            there || matches!(failed, CommitError::Store(_)),
            "`{unit}` is refused for good: {failed}"
        );
        Ok(there.then_some(()))
    })
    .await
}

async fn claim(store: &Cloud, queue: &str) -> Result<Delivery> {
    let claimed = until("an event", LIMIT, async || {
        Ok(store
            .claim(queue, 1, WAIT)
            .await
            .ok()
            .and_then(|mut some| some.pop()))
    });
    claimed.await.with_context(|| format!("from `{queue}`"))
}

/// An object and events enter; each event is handled, with rows for more than one transaction; what follows enters another
/// queue.
async fn play(store: &Cloud) -> Result<()> {
    let object = until("a staged object", LIMIT, async || {
        let mut stage = store.stage().await?;
        let written = stage.write("the tide".into()).await;
        Ok(match written {
            Ok(()) => stage.finish().await.ok(),
            Err(_) => None,
        })
    })
    .await?;
    commit(store, "enter", || Unit {
        state: vec![mark("enter")],
        objects: vec![Publication {
            bucket: "b".into(),
            key: "o".into(),
            staged: Some(object.clone()),
            content_type: None,
            user: Default::default(),
            condition: Condition::None,
        }],
        enqueue: (0..EVENTS).map(|nth| enqueue("q", &nth.to_string())).collect(),
        ..Unit::default()
    })
    .await?;
    let mut handled = BTreeSet::new();
    while handled.len() < EVENTS {
        let delivery = claim(store, "q").await?;
        let id = delivery.event.id.clone();
        ensure!(
            handled.insert(id.clone()),
            "`{id}` comes again after it was handled"
        );
        let rows = if id == "0" { ROWS } else { 1 };
        commit(store, &id, || Unit {
            settle: vec![delivery.receipt.clone()],
            state: (0..rows)
                .map(|row| put("t", &format!("{id}/{row:03}"), "1"))
                .chain([mark(&id)])
                .collect(),
            enqueue: vec![enqueue("r", &id)],
            ..Unit::default()
        })
        .await?;
    }
    Ok(())
}

/// Everything is there, once.
async fn check(store: &Cloud) -> Result<()> {
    let mut followed = BTreeSet::new();
    while followed.len() < EVENTS {
        let delivery = claim(store, "r").await?;
        let id = delivery.event.id.clone();
        ensure!(
            followed.insert(id.clone()),
            "what follows from `{id}` is there twice"
        );
        let settle = Unit {
            settle: vec![delivery.receipt],
            ..Unit::default()
        };
        store.commit(settle).await?;
    }
    until("every row", LIMIT, async || {
        let all = store.query("t", "", None, 1000, Order::Ascending).await?;
        Ok((all.entries.len() == ROWS + EVENTS - 1).then_some(()))
    })
    .await?;
    let object = store.open("b", "o").await?.context("no object")?;
    ensure!(object.read_at(0, 100).await? == "the tide", "another object");
    for queue in ["q", "r"] {
        let depth = store.depth(queue).await?;
        ensure!(depth == Default::default(), "`{queue}` has {depth:?}");
    }
    Ok(())
}

/// Plays the story with one call lost; how many calls it took.
async fn play_with(servers: &Servers, lost: Option<(usize, Lost)>) -> Result<usize> {
    let weather = Arc::new(Weather::default());
    let ways = servers.ways(weather.clone()).await?;
    let name = lost.map_or("faults".to_owned(), |(nth, lost)| {
        format!("faults-{nth}-{lost:?}")
    });
    let store = Cloud::open(Settings {
        // The servers have no room for many buckets.
        bucket: "faults".into(),
        ..ways.settings(&name.to_lowercase())
    })
    .await?;
    weather.lose(lost);
    let told = || format!("the call that is lost: {lost:?}");
    play(&store).await.with_context(told)?;
    let calls = weather.calls();
    check(&store).await.with_context(told)?;
    Ok(calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_of_the_services_may_be_lost_before_or_after_it_took_effect() -> Result<()> {
    let servers = Servers::start().await?;
    let calls = play_with(&servers, None).await?;
    let lost = (0..calls).flat_map(|nth| [Lost::Asked, Lost::Answered].map(|lost| (nth, lost)));
    futures::stream::iter(lost)
        .map(|lost| play_with(&servers, Some(lost)))
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |_calls| Ok(()))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_cut_off_are_found_again_without_a_restart() -> Result<()> {
    let servers = Servers::start().await?;
    let weather = Arc::new(Weather::default());
    let ways = servers.ways(weather.clone()).await?;
    let store = Cloud::open(ways.settings("cut")).await?;
    let cutting = async {
        while weather.calls() < 12 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        weather.cut(true);
        tokio::time::sleep(Duration::from_secs(8)).await;
        weather.cut(false);
        anyhow::Ok(())
    };
    weather.lose(None);
    tokio::try_join!(play(&store), cutting)?;
    check(&store).await
}
