use std::time::Instant;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::inference::NoInference;
use crate::manifest::Manifest;
use crate::store::memory::Memory;
use crate::store::{Order, Store};
use crate::trigger::Router;

const HOUR: u64 = 3_600_000;
/// 2026-01-01T00:00:00Z.
const NEW_YEAR: u64 = 1_767_225_600_000;

fn functions(cron: &str, misfire: &str) -> Vec<Arc<Function>> {
    let text = format!(
        r#"
        app = {{ name = "a" }}
        [[function]]
        name = "nightly"
        component = "x.wasm"
        trigger = [{{ schedule = {{ cron = "{cron}", misfire = "{misfire}", data = '{{"n":1}}' }} }}]
        "#
    );
    let manifest = Manifest::parse(&text, "tidegate.toml").unwrap();
    manifest.functions.into_iter().map(Arc::new).collect()
}

fn schedule(cron: &str, misfire: &str) -> Schedule {
    let function = functions(cron, misfire).remove(0);
    let Some(Trigger::Schedule(schedule)) = function.triggers.first() else {
        panic!("no schedule")
    };
    schedule.clone()
}

/// A host over a store and a clock that it may share with others.
struct Host {
    services: Arc<Services>,
    scheduler: Scheduler,
    clock: Arc<ManualClock>,
}

impl Host {
    fn start(store: &Arc<dyn Store>, clock: &Arc<ManualClock>, functions: &[Arc<Function>]) -> Self {
        let services = Services::new(store.clone(), Arc::new(NoInference), clock.clone());
        services.set_router(Router::new(functions));
        let scheduler = Scheduler::new(services.clone());
        scheduler.set(functions);
        Self {
            services,
            scheduler,
            clock: clock.clone(),
        }
    }

    async fn stop(self) {
        self.services.stopping.cancel();
        self.services.wait().await;
    }

    /// Waits until `timers` wait for a later time, all that is due being done.
    async fn idle(&self, timers: usize) {
        self.until(async || self.clock.sleepers() == timers).await;
    }

    async fn until(&self, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < Duration::from_secs(20), "nothing happened");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Moves the clock, and waits until `last` says that the schedule has come to the time.
    async fn advance(&self, now: u64, comes_to: u64) {
        self.clock.set(now);
        self.until(async || self.last().await == Some(comes_to)).await;
    }

    async fn last(&self) -> Option<u64> {
        let row = self
            .services
            .store
            .get(SCHEDULES, "nightly/0/last")
            .await
            .unwrap()?;
        Some(serde_json::from_slice::<Last>(&row.value).unwrap().at)
    }

    async fn rows(&self) -> Vec<String> {
        let page = self
            .services
            .store
            .query(SCHEDULES, "", None, 100, Order::Ascending)
            .await
            .unwrap();
        page.entries.into_iter().map(|(key, _)| key).collect()
    }

    /// The times of the events in the queue.
    async fn fired(&self) -> Vec<u64> {
        let claimed = self
            .services
            .store
            .claim("nightly@0", 100, Duration::ZERO)
            .await
            .unwrap();
        claimed.iter().map(|delivery| delivery.event.time).collect()
    }
}

fn store() -> Arc<dyn Store> {
    Arc::new(Memory::default())
}

#[test]
fn a_fire_to_come_is_waited_for() {
    let hourly = schedule("0 * * * *", "run_once");
    assert_eq!(plan(&hourly, NEW_YEAR, NEW_YEAR + 5), Plan::Wait(NEW_YEAR + HOUR));
    assert_eq!(
        plan(&schedule("0 0 29 2 *", "skip"), NEW_YEAR, NEW_YEAR),
        Plan::Wait(1_835_395_200_000)
    );
}

#[test]
fn a_fire_a_little_late_is_not_a_missed_one() {
    for misfire in ["run_once", "skip"] {
        let hourly = schedule("0 * * * *", misfire);
        assert_eq!(
            plan(&hourly, NEW_YEAR, NEW_YEAR + HOUR),
            Plan::Fire(NEW_YEAR + HOUR)
        );
        assert_eq!(
            plan(&hourly, NEW_YEAR, NEW_YEAR + HOUR + 59_999),
            Plan::Fire(NEW_YEAR + HOUR)
        );
    }
}

#[test]
fn fires_missed_are_made_up_for_by_one_or_by_none() {
    let now = NEW_YEAR + 5 * HOUR + HOUR / 2;
    assert_eq!(
        plan(&schedule("0 * * * *", "run_once"), NEW_YEAR, now),
        Plan::Fire(NEW_YEAR + 5 * HOUR)
    );
    assert_eq!(
        plan(&schedule("0 * * * *", "skip"), NEW_YEAR, now),
        Plan::PassOver(NEW_YEAR + 5 * HOUR)
    );
}

#[test]
fn every_missed_fire_is_made_up_for_up_to_a_bound_where_all_are_asked_for() {
    let hourly = schedule("0 * * * *", "run_all");
    let now = NEW_YEAR + 5 * HOUR + HOUR / 2;
    assert_eq!(plan(&hourly, NEW_YEAR, now), Plan::Fire(NEW_YEAR + HOUR));
    let most = MOST_MADE_UP as u64;
    let late = NEW_YEAR + most * HOUR;
    assert_eq!(plan(&hourly, NEW_YEAR, late), Plan::Fire(NEW_YEAR + HOUR));
    let later = NEW_YEAR + (most + 7) * HOUR;
    assert_eq!(
        plan(&hourly, NEW_YEAR, later),
        Plan::PassOver(NEW_YEAR + 7 * HOUR)
    );
    // Years of seconds cost no more.
    let seconds = schedule("* * * * * *", "run_all");
    let years = NEW_YEAR + 20_000 * HOUR;
    assert_eq!(
        plan(&seconds, NEW_YEAR, years),
        Plan::PassOver(years - most * 1000)
    );
}

#[tokio::test]
async fn jitter_holds_an_event_back_by_what_its_fire_decides_on_every_host() {
    let clock = Arc::new(ManualClock::new(NEW_YEAR));
    let store: Arc<dyn Store> = Arc::new(Memory::with_clock(clock.clone()));
    let functions = functions("0 * * * *", "run_once\", jitter = \"30m");
    let hosts: Vec<Host> = (0..2).map(|_| Host::start(&store, &clock, &functions)).collect();
    hosts[0].idle(2).await;
    let offsets = [1, 2, 3].map(|hour| {
        let timer = |host: &Host| Timer {
            services: host.services.clone(),
            function: "nightly".into(),
            index: 0,
            schedule: schedule("0 * * * *", "run_once\", jitter = \"30m"),
        };
        let [one, other] = [&hosts[0], &hosts[1]].map(|host| timer(host).offset(NEW_YEAR + hour * HOUR));
        assert_eq!(one, other);
        assert!(one < HOUR / 2);
        one
    });
    assert!(offsets.iter().any(|offset| *offset != offsets[0]), "{offsets:?}");
    hosts[0].advance(NEW_YEAR + HOUR, NEW_YEAR + HOUR).await;
    let depth = store.depth("nightly@0").await.unwrap();
    assert_eq!((depth.ready, depth.delayed), (0, 1));
    for host in hosts {
        host.stop().await;
    }
}

#[test]
fn times_are_shown_as_rfc_3339() {
    assert_eq!(shown(NEW_YEAR), "2026-01-01T00:00:00Z");
    assert_eq!(shown(NEW_YEAR + 7), "2026-01-01T00:00:00.007Z");
}

#[tokio::test]
async fn a_schedule_fires_when_its_time_has_come_with_its_data() {
    let clock = Arc::new(ManualClock::new(NEW_YEAR));
    let host = Host::start(&store(), &clock, &functions("0 * * * *", "run_once"));
    host.idle(1).await;
    assert!(host.fired().await.is_empty());
    host.advance(NEW_YEAR + HOUR, NEW_YEAR + HOUR).await;
    let claimed = host
        .services
        .store
        .claim("nightly@0", 10, Duration::ZERO)
        .await
        .unwrap();
    let [delivery] = claimed.as_slice() else {
        panic!("{claimed:?}")
    };
    assert_eq!(
        (delivery.event.time, &delivery.event.data[..]),
        (NEW_YEAR + HOUR, &br#"{"n":1}"#[..])
    );
    assert_eq!(delivery.event.id, "schedule-nightly-0-2026-01-01T01:00:00Z");
    host.stop().await;
}

#[tokio::test]
async fn hosts_that_share_a_store_fire_once_together() {
    let (store, clock) = (store(), Arc::new(ManualClock::new(NEW_YEAR)));
    let functions = functions("0 * * * *", "run_once");
    let hosts: Vec<Host> = (0..4).map(|_| Host::start(&store, &clock, &functions)).collect();
    hosts[0].idle(4).await;
    for hour in 1..=3 {
        hosts[0]
            .advance(NEW_YEAR + hour * HOUR, NEW_YEAR + hour * HOUR)
            .await;
        hosts[0].idle(4).await;
    }
    assert_eq!(
        hosts[0].fired().await,
        [1, 2, 3].map(|hour| NEW_YEAR + hour * HOUR)
    );
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test]
async fn the_table_does_not_grow_with_the_fires() {
    let clock = Arc::new(ManualClock::new(NEW_YEAR));
    let host = Host::start(&store(), &clock, &functions("0 * * * *", "run_once"));
    host.idle(1).await;
    for hour in 1..=5 {
        host.advance(NEW_YEAR + hour * HOUR, NEW_YEAR + hour * HOUR).await;
    }
    assert_eq!(
        host.rows().await,
        ["nightly/0/2026-01-01T05:00:00Z", "nightly/0/last"]
    );
    host.stop().await;
}

/// A host that stops before its first fire and is back five hours later.
async fn fires_after_downtime(misfire: &str) -> Vec<u64> {
    let (store, clock) = (store(), Arc::new(ManualClock::new(NEW_YEAR)));
    let functions = functions("0 * * * *", misfire);
    let host = Host::start(&store, &clock, &functions);
    host.idle(1).await;
    host.stop().await;
    clock.set(NEW_YEAR + 5 * HOUR + HOUR / 2);
    let host = Host::start(&store, &clock, &functions);
    host.until(async || host.last().await == Some(NEW_YEAR + 5 * HOUR))
        .await;
    host.advance(NEW_YEAR + 6 * HOUR, NEW_YEAR + 6 * HOUR).await;
    let fired = host.fired().await;
    host.stop().await;
    fired
}

#[tokio::test]
async fn after_downtime_one_fire_stands_for_all_that_were_missed() {
    assert_eq!(
        fires_after_downtime("run_once").await,
        [NEW_YEAR + 5 * HOUR, NEW_YEAR + 6 * HOUR]
    );
}

#[tokio::test]
async fn after_downtime_every_missed_fire_is_made_up_for_where_the_manifest_says_so() {
    assert_eq!(
        fires_after_downtime("run_all").await,
        [1, 2, 3, 4, 5, 6].map(|hour| NEW_YEAR + hour * HOUR)
    );
}

#[tokio::test]
async fn after_downtime_missed_fires_are_skipped_where_the_manifest_says_so() {
    assert_eq!(fires_after_downtime("skip").await, [NEW_YEAR + 6 * HOUR]);
}

#[tokio::test]
async fn a_schedule_that_was_changed_starts_anew() {
    let (store, clock) = (store(), Arc::new(ManualClock::new(NEW_YEAR)));
    let host = Host::start(&store, &clock, &functions("0 0 1 * *", "run_once"));
    host.idle(1).await;
    clock.set(NEW_YEAR + 5 * HOUR);
    host.scheduler.set(&functions("0 * * * *", "run_once"));
    host.until(async || host.last().await == Some(NEW_YEAR + 5 * HOUR))
        .await;
    host.advance(NEW_YEAR + 6 * HOUR, NEW_YEAR + 6 * HOUR).await;
    assert_eq!(host.fired().await, [NEW_YEAR + 6 * HOUR]);
    host.stop().await;
}

#[tokio::test]
async fn a_fire_whose_row_is_there_is_not_repeated_when_the_clock_was_set_back() {
    let (store, clock) = (store(), Arc::new(ManualClock::new(NEW_YEAR)));
    let host = Host::start(&store, &clock, &functions("0 * * * *", "run_once"));
    host.idle(1).await;
    host.advance(NEW_YEAR + HOUR, NEW_YEAR + HOUR).await;
    host.idle(1).await;
    clock.set(NEW_YEAR + HOUR / 2);
    host.scheduler.set(&functions("30 * * * *", "run_once"));
    host.until(async || host.last().await == Some(clock.now_ms()))
        .await;
    host.scheduler.set(&functions("0 * * * *", "run_once"));
    host.idle(1).await;
    host.advance(NEW_YEAR + HOUR, NEW_YEAR + HOUR).await;
    host.advance(NEW_YEAR + 2 * HOUR, NEW_YEAR + 2 * HOUR).await;
    assert_eq!(host.fired().await, [NEW_YEAR + HOUR, NEW_YEAR + 2 * HOUR]);
    host.stop().await;
}

#[tokio::test]
async fn asked_what_is_due_schedules_fire_just_that_and_wait_for_nothing() {
    let (store, clock) = (store(), Arc::new(ManualClock::new(NEW_YEAR)));
    let hourly = functions("0 * * * *", "run_all");
    let host = Host::start(&store, &clock, &[]);
    host.services.set_router(Router::new(&hourly));
    host.scheduler.fire_due(&hourly).await.unwrap();
    assert_eq!(host.last().await, Some(NEW_YEAR));
    clock.set(NEW_YEAR + 2 * HOUR);
    for _ in 0..2 {
        host.scheduler.fire_due(&hourly).await.unwrap();
    }
    assert_eq!(host.fired().await, [NEW_YEAR + HOUR, NEW_YEAR + 2 * HOUR]);
    host.stop().await;
}
