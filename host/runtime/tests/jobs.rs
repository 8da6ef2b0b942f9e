//! Jobs on the embedded store: who holds one, and what is left of it.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidegate_runtime::clock::SystemClock;
use tidegate_runtime::effects::{Draft, Staged, Submission};
use tidegate_runtime::event::Event;
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::jobs::{CHECKPOINTS, CancelError, Device, Jobs, Leased, Limits, Phase, Terms, Worker};
use tidegate_runtime::manifest::Manifest;
use tidegate_runtime::services::Services;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Condition, Publication, Unit};

const KIND: &str = "train.x";

struct Bench {
    _folder: tempfile::TempDir,
    store: Arc<Embedded>,
    services: Arc<Services>,
    jobs: Arc<Jobs>,
}

fn worker() -> Worker {
    Worker {
        name: "w".into(),
        kinds: vec![KIND.into()],
        ..Worker::default()
    }
}

impl Bench {
    fn new() -> Self {
        Self::limited(Limits::default())
    }

    fn limited(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(folder.path()).unwrap());
        let services = Services::new(store.clone(), Arc::new(NoInference), Arc::new(SystemClock));
        Self {
            _folder: folder,
            jobs: Jobs::start(services.clone(), limits),
            services,
            store,
        }
    }

    /// Another host on the same store, or the same one after a restart.
    fn beside(&self) -> Arc<Jobs> {
        let services = Services::new(self.store.clone(), Arc::new(NoInference), Arc::new(SystemClock));
        Jobs::start(services, Limits::default())
    }

    async fn submit(&self, id: &str) {
        self.submit_on(id, Terms::default()).await;
    }

    async fn submit_on(&self, id: &str, terms: Terms) {
        let text = "app = { name = \"a\" }\n[[function]]\nname = \"f\"\ncomponent = \"f.wasm\"\ntrigger = [{ event = \"E\" }]";
        let manifest = Manifest::parse(text, "t").unwrap();
        let event: Event = Event {
            id: "e".into(),
            source: "/x".into(),
            kind: "E".into(),
            subject: None,
            time: 0,
            content_type: None,
            data: Bytes::new(),
            traceparent: String::new(),
            run: "r".into(),
            parent: None,
            part_of: None,
        };
        let submission = Submission {
            id: id.into(),
            kind: KIND.into(),
            config: json!({}),
            reads: Vec::new(),
            writes: Vec::new(),
            emits: "Trained".into(),
            terms,
            part_of: None,
        };
        let staged = Staged {
            jobs: vec![submission],
            ..Staged::default()
        };
        let mut draft = Draft::new(&self.services);
        draft.staged(staged, &manifest.functions[0], &event);
        draft.commit().await.unwrap();
    }

    async fn lease(&self) -> Leased {
        let leased = self.jobs.lease(&worker(), Duration::from_secs(10)).await;
        leased.unwrap().unwrap()
    }

    async fn lease_now(&self, worker: &Worker) -> Option<String> {
        let leased = self.jobs.lease(worker, Duration::ZERO).await.unwrap();
        leased.map(|leased| leased.job.id)
    }

    /// Where a job is, and why it did not end well.
    async fn phase(&self, id: &str) -> (Phase, Option<String>) {
        let job = self.jobs.one(id).await.unwrap().unwrap().job;
        (job.phase, job.reason().map(str::to_owned))
    }

    async fn checkpoint(&self, key: &str) {
        let mut stage = self.services.store.stage().await.unwrap();
        stage.write(Bytes::from_static(b"weights")).await.unwrap();
        let publication = Publication {
            bucket: CHECKPOINTS.into(),
            key: key.into(),
            staged: Some(stage.finish().await.unwrap()),
            content_type: None,
            user: BTreeMap::new(),
            condition: Condition::None,
        };
        let objects = vec![publication];
        let unit = Unit {
            objects,
            ..Unit::default()
        };
        self.services.store.commit(unit).await.unwrap();
    }

    async fn checkpoints(&self) -> Vec<String> {
        let page = self
            .services
            .store
            .list(CHECKPOINTS, "", None, 100)
            .await
            .unwrap();
        page.entries.into_iter().map(|meta| meta.key).collect()
    }
}

/// On one thread, whoever waits for the job gets it before the one who gave it back goes on.
#[tokio::test]
async fn a_job_that_is_given_back_belongs_to_the_worker_that_leases_it_next() {
    let bench = Bench::new();
    bench.submit("j").await;
    let first = bench.lease().await;
    let (given_back, second) = tokio::join!(
        bench.jobs.lose("j", &first.token, "the worker process ended"),
        bench.lease()
    );
    given_back.unwrap();
    assert_eq!(second.job.attempt, 2);
    assert!(bench.jobs.heartbeat("j", &second.token, None).await.is_ok());
    assert!(bench.jobs.heartbeat("j", &first.token, None).await.is_err());
}

#[tokio::test]
async fn a_job_that_its_worker_never_got_is_leased_again_with_the_same_attempt() {
    let bench = Bench::new();
    bench.submit("j").await;
    let first = bench.lease().await;
    bench.jobs.take_back("j", &first.token).await.unwrap();
    assert!(bench.jobs.heartbeat("j", &first.token, None).await.is_err());
    assert_eq!(bench.lease().await.job.attempt, 1);
}

#[tokio::test]
async fn checkpoints_stay_for_the_next_attempt_and_go_when_the_job_has_ended() {
    let bench = Bench::new();
    for (id, well) in [("a", true), ("b", false)] {
        bench.submit(id).await;
        let first = bench.lease().await;
        bench.checkpoint(&format!("{id}/checkpoint")).await;
        bench.checkpoint(&format!("{id}0/checkpoint")).await;
        bench.jobs.fail(id, &first.token, "lost", true).await.unwrap();
        assert_eq!(
            bench.checkpoints().await,
            [format!("{id}/checkpoint"), format!("{id}0/checkpoint")]
        );
        let second = bench.lease().await;
        if well {
            bench.jobs.complete(id, &second.token, json!({})).await.unwrap();
        } else {
            bench.jobs.fail(id, &second.token, "no way", false).await.unwrap();
        }
        assert_eq!(bench.checkpoints().await, [format!("{id}0/checkpoint")]);
        let other = bench.services.store.list(CHECKPOINTS, "", None, 1).await.unwrap();
        let key = other.entries[0].key.clone();
        let unit = Unit {
            objects: vec![Publication {
                bucket: CHECKPOINTS.into(),
                key,
                staged: None,
                content_type: None,
                user: BTreeMap::new(),
                condition: Condition::None,
            }],
            ..Unit::default()
        };
        bench.services.store.commit(unit).await.unwrap();
    }
}

#[tokio::test]
async fn the_highest_priority_is_leased_first_and_the_oldest_of_one_priority() {
    let bench = Bench::new();
    for (id, priority) in [("low", -5), ("first", 0), ("second", 0), ("high", 100)] {
        let terms = Terms {
            priority,
            ..Terms::default()
        };
        bench.submit_on(id, terms).await;
        // Of one millisecond, the order is that of the ids.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for expected in ["high", "first", "second", "low"] {
        assert_eq!(bench.lease().await.job.id, expected);
    }
}

#[tokio::test]
async fn a_job_that_waits_or_runs_is_cancelled_once_and_its_worker_loses_it() {
    let bench = Bench::new();
    bench.submit("waits").await;
    bench.jobs.cancel("waits").await.unwrap();
    assert_eq!(bench.lease_now(&worker()).await, None);
    bench.submit("runs").await;
    let leased = bench.lease().await;
    bench.checkpoint("runs/checkpoint").await;
    bench.jobs.cancel("runs").await.unwrap();
    let lost = bench.jobs.complete("runs", &leased.token, json!({})).await;
    assert!(lost.unwrap_err().to_string().contains("cancelled"));
    assert!(bench.jobs.scope(&leased.token).await.unwrap().is_none());
    assert_eq!(bench.checkpoints().await, [""; 0]);
    for id in ["waits", "runs"] {
        let cancelled = (Phase::Cancelled, Some("cancelled".to_owned()));
        assert_eq!(bench.phase(id).await, cancelled);
        let again = bench.jobs.cancel(id).await;
        assert!(
            matches!(again, Err(CancelError::Ended(_, Phase::Cancelled))),
            "{again:?}"
        );
    }
    let none = bench.jobs.cancel("none").await;
    assert!(matches!(none, Err(CancelError::Missing(_))), "{none:?}");
}

#[tokio::test]
async fn a_job_that_takes_longer_than_its_timeout_has_failed_however_lively_its_worker_is() {
    let bench = Bench::new();
    let terms = Terms {
        timeout_ms: Some(1000),
        ..Terms::default()
    };
    bench.submit_on("j", terms).await;
    let leased = bench.lease().await;
    while bench.jobs.heartbeat("j", &leased.token, None).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (phase, reason) = bench.phase("j").await;
    assert_eq!(phase, Phase::Failed);
    assert!(reason.unwrap().contains("`timeout`"));
}

#[tokio::test]
async fn a_job_fails_for_good_after_the_attempts_that_it_asked_for() {
    let bench = Bench::new();
    let terms = Terms {
        attempts: Some(2),
        ..Terms::default()
    };
    bench.submit_on("j", terms).await;
    for attempt in 1..=2 {
        let leased = bench.lease().await;
        assert_eq!(leased.job.attempt, attempt);
        bench
            .jobs
            .fail("j", &leased.token, "no luck", true)
            .await
            .unwrap();
    }
    assert_eq!(bench.phase("j").await, (Phase::Failed, Some("no luck".into())));
}

#[tokio::test]
async fn a_tenant_runs_no_more_jobs_than_it_may() {
    let limits = Limits {
        per_tenant: 2,
        tenants: BTreeMap::from([("a".to_owned(), 1)]),
        ..Limits::default()
    };
    let bench = Bench::limited(limits);
    bench.submit("one").await;
    bench.submit("two").await;
    let first = bench.lease().await;
    assert_eq!(bench.lease_now(&worker()).await, None);
    bench
        .jobs
        .complete(&first.job.id, &first.token, json!({}))
        .await
        .unwrap();
    assert!(bench.lease_now(&worker()).await.is_some());
}

#[tokio::test]
async fn a_job_waits_for_a_worker_with_its_device_and_says_so() {
    let bench = Bench::new();
    let terms = Terms {
        device: Some("cuda".into()),
        memory: Some(8 << 30),
        ..Terms::default()
    };
    bench.submit_on("j", terms).await;
    let with = |memory_bytes| Worker {
        name: format!("gpu-{memory_bytes}"),
        devices: vec![Device {
            kind: "cuda".into(),
            memory_bytes,
        }],
        ..worker()
    };
    assert_eq!(bench.lease_now(&worker()).await, None);
    assert_eq!(bench.lease_now(&with(4 << 30)).await, None);
    let stuck = bench.jobs.one("j").await.unwrap().unwrap().stuck.unwrap();
    assert!(stuck.contains("the device that it needs, `cuda`"), "{stuck}");
    assert_eq!(bench.lease_now(&with(16 << 30)).await.as_deref(), Some("j"));
}

#[tokio::test]
async fn workers_are_wanted_for_jobs_by_device_and_for_no_more_than_a_tenant_may_have() {
    let bench = Bench::limited(Limits {
        per_tenant: 2,
        ..Limits::default()
    });
    let counted = async || {
        let demands = bench.jobs.demand().await.unwrap();
        let counted = demands
            .into_iter()
            .map(|(device, found)| (device, found.waiting, found.running, found.workers));
        counted.collect::<Vec<_>>()
    };
    let of = |[any, cpu, cuda]: [(u64, u64, u64); 3]| {
        [("any", any), ("cpu", cpu), ("cuda", cuda)]
            .map(|(device, (waiting, running, workers))| (device.to_owned(), waiting, running, workers))
    };
    assert_eq!(counted().await, of([(0, 0, 0); 3]));
    let cuda = || Terms {
        device: Some("cuda".into()),
        ..Terms::default()
    };
    for id in ["a", "b", "c"] {
        bench.submit_on(id, cuda()).await;
    }
    bench.submit("d").await;
    assert_eq!(counted().await, of([(1, 0, 0), (0, 0, 0), (3, 0, 2)]));
    let gpu = Worker {
        devices: vec![Device {
            kind: "cuda".into(),
            memory_bytes: 0,
        }],
        ..worker()
    };
    let leased = bench.jobs.lease(&gpu, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(leased.job.id, "a");
    assert_eq!(counted().await, of([(1, 0, 0), (0, 0, 0), (2, 1, 2)]));
    bench.jobs.complete("a", &leased.token, json!({})).await.unwrap();
    for id in ["b", "c", "d"] {
        bench.jobs.cancel(id).await.unwrap();
    }
    assert_eq!(counted().await, of([(0, 0, 0); 3]));
}

#[tokio::test]
async fn queues_tell_how_many_jobs_of_a_kind_there_are() {
    let limits = Limits {
        told_in_queues: true,
        ..Limits::default()
    };
    let bench = Bench::limited(limits);
    for id in ["a", "b", "c"] {
        bench.submit(id).await;
    }
    let told = async |expected: u64| {
        let queue = format!("$jobs/{KIND}");
        while bench.services.store.depth(&queue).await.unwrap().ready != expected {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    told(3).await;
    let leased = bench.lease().await;
    bench
        .jobs
        .complete(&leased.job.id, &leased.token, json!({}))
        .await
        .unwrap();
    told(2).await;
}

#[tokio::test]
async fn a_lease_is_kept_alive_and_ended_at_any_host_of_the_store() {
    let bench = Bench::new();
    bench.submit("j").await;
    let leased = bench.lease().await;
    let other = bench.beside();
    let progress = json!({ "done": 3, "total": 9 });
    other
        .heartbeat("j", &leased.token, Some(progress.clone()))
        .await
        .unwrap();
    assert_eq!(bench.jobs.one("j").await.unwrap().unwrap().job.detail, progress);
    assert_eq!(other.scope(&leased.token).await.unwrap().unwrap().id, "j");
    assert!(other.lease(&worker(), Duration::ZERO).await.unwrap().is_none());
    other
        .complete("j", &leased.token, json!({ "auc": 1 }))
        .await
        .unwrap();
    assert_eq!(bench.phase("j").await, (Phase::Succeeded, None));
    assert!(bench.jobs.heartbeat("j", &leased.token, None).await.is_err());
}

#[tokio::test]
async fn after_a_restart_a_worker_keeps_its_job_and_that_of_a_child_is_given_back() {
    let bench = Bench::new();
    bench.submit("far").await;
    let far = bench.lease().await;
    bench.submit("child").await;
    let child = Worker {
        child: true,
        ..worker()
    };
    assert_eq!(bench.lease_now(&child).await.as_deref(), Some("child"));
    let restarted = bench.beside();
    restarted.give_orphans_back().await.unwrap();
    restarted.heartbeat("far", &far.token, None).await.unwrap();
    let again = restarted.lease(&child, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((again.job.id.as_str(), again.job.attempt), ("child", 1));
}
