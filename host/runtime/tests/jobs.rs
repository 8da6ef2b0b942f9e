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
use tidegate_runtime::jobs::{CHECKPOINTS, Jobs, Leased};
use tidegate_runtime::manifest::Manifest;
use tidegate_runtime::services::Services;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::{Condition, Publication, Unit};

const KIND: &str = "train.x";

struct Bench {
    _folder: tempfile::TempDir,
    services: Arc<Services>,
    jobs: Arc<Jobs>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(folder.path()).unwrap());
        let services = Services::new(store, Arc::new(NoInference), Arc::new(SystemClock));
        Self {
            _folder: folder,
            jobs: Jobs::start(services.clone()),
            services,
        }
    }

    async fn submit(&self, id: &str) {
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
        let leased = self
            .jobs
            .lease("w", &[KIND.into()], Duration::from_secs(10))
            .await;
        leased.unwrap().unwrap()
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
        bench
            .jobs
            .fail("j", &first.token, "the worker process ended", true),
        bench.lease()
    );
    given_back.unwrap();
    assert_eq!(second.job.attempt, 2);
    assert!(bench.jobs.heartbeat("j", &second.token, None).is_ok());
    assert!(bench.jobs.heartbeat("j", &first.token, None).is_err());
}

#[tokio::test]
async fn a_job_that_its_worker_never_got_is_leased_again_with_the_same_attempt() {
    let bench = Bench::new();
    bench.submit("j").await;
    let first = bench.lease().await;
    bench.jobs.take_back("j", &first.token).await.unwrap();
    assert!(bench.jobs.heartbeat("j", &first.token, None).is_err());
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
            bench
                .jobs
                .fail(id, &second.token, "cancelled", false)
                .await
                .unwrap();
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
