//! Hosts whose clocks are far apart share a store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_cloud::{Cloud, Settings};
use tidegate_cloud_tests::Servers;
use tidegate_harness::until;
use tidegate_runtime::clock::{Clock, SystemClock};
use tidegate_runtime::store::conformance::{enqueue, put};
use tidegate_runtime::store::{Delivery, Store, Unit};

const LIMIT: Duration = Duration::from_secs(120);
const WAIT: Duration = Duration::from_secs(10);
const VISIBILITY: Duration = Duration::from_secs(3);
const HOUR_MS: i64 = 3_600_000;

/// A clock that is off by so many milliseconds.
struct Off(i64);

impl Clock for Off {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms().saturating_add_signed(self.0)
    }
}

async fn open(servers: &Servers, off: i64) -> Result<Cloud> {
    let settings = Settings {
        visibility: VISIBILITY,
        ..servers.settings("clocks")
    };
    Ok(Cloud::open_with_clock(settings, Arc::new(Off(off))).await?)
}

async fn claim(store: &Cloud) -> Result<Delivery> {
    until("an event", LIMIT, async || {
        Ok(store.claim("q", 1, WAIT).await?.pop())
    })
    .await
}

async fn send(store: &Cloud, id: &str) -> Result<()> {
    let unit = Unit {
        enqueue: vec![enqueue("q", id)],
        ..Unit::default()
    };
    Ok(store.commit(unit).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writes_by_hosts_whose_clocks_are_an_hour_apart_the_last_one_counts() -> Result<()> {
    let servers = Servers::start().await?;
    let (ahead, behind) = (open(&servers, HOUR_MS).await?, open(&servers, -HOUR_MS).await?);
    let mut last = 0;
    for (nth, store) in [&ahead, &behind, &ahead, &behind].into_iter().enumerate() {
        let state = vec![put("t", "k", &nth.to_string())];
        store
            .commit(Unit {
                state,
                ..Unit::default()
            })
            .await?;
        let found = behind.get("t", "k").await?.context("the value")?;
        assert_eq!(&found.value[..], nth.to_string().as_bytes());
        assert!(found.version > last, "versions grow");
        last = found.version;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_host_held_comes_to_the_others_whatever_its_clock_said() -> Result<()> {
    let servers = Servers::start().await?;
    let right = open(&servers, 0).await?;
    for off in [HOUR_MS, -HOUR_MS] {
        let wrong = open(&servers, off).await?;
        send(&right, &off.to_string()).await?;
        let held = claim(&wrong).await?;
        assert_eq!(held.event.id, off.to_string());
        // It dies: nothing is given back.
        drop(wrong);
        let again = claim(&right).await?;
        assert_eq!(again.event.id, held.event.id);
        let settle = vec![again.receipt];
        right
            .commit(Unit {
                settle,
                ..Unit::default()
            })
            .await?;
    }
    Ok(())
}
