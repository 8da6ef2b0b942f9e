//! The process under test: the platform's own dispatcher and jobs, with stand-ins for guests and workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidegate_runtime::dispatch::{
    DeadLetter, DeadLetters, Dispatcher, Handler, LetterFilter, NoRoom, completes_joins, drained, has_room,
};
use tidegate_runtime::effects::Draft;
use tidegate_runtime::event::Event;
use tidegate_runtime::inference::NoInference;
use tidegate_runtime::jobs::{self, CancelError, EndError, Jobs, Leased};
use tidegate_runtime::manifest::Function;
use tidegate_runtime::records::KeptRequests;
use tidegate_runtime::services::Services;
use tidegate_runtime::store::{CommitError, Store};
use tidegate_runtime::trigger::Scheduler;
use tidegate_runtime::world::World;
use tokio_util::sync::CancellationToken;

use crate::guests::user;
use crate::pipeline::{JOB, Pipeline};
use crate::random::Random;
use crate::versions::Versions;

/// A running platform.
#[derive(Clone)]
pub struct Process {
    /// Its shared parts.
    pub services: Arc<Services>,
    pipeline: Arc<Pipeline>,
    handler: Arc<dyn Handler>,
    stops: Arc<Mutex<BTreeMap<String, CancellationToken>>>,
    scheduler: Arc<Scheduler>,
}

impl Process {
    /// Starts a platform over a store.
    pub fn start(
        world: World,
        store: Arc<dyn Store>,
        pipeline: &Arc<Pipeline>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let (inference, places) = (Arc::new(NoInference), pipeline.places.clone());
        let services = Services::in_world(world, store, inference, places, KeptRequests::default());
        let process = Self {
            stops: Arc::default(),
            scheduler: Arc::new(Scheduler::new(services.clone())),
            services,
            pipeline: pipeline.clone(),
            handler,
        };
        let versions = pipeline.versions();
        for version in versions.all() {
            process.run(version);
        }
        process.turn(&versions);
        drop(versions);
        completes_joins(&process.services).start();
        process
    }

    fn run(&self, version: Arc<Function>) {
        let queue = version.queue();
        let stop = Dispatcher::new(&self.services, version, self.handler.clone()).start();
        self.stops.lock().unwrap().insert(queue, stop);
    }

    /// Sends events to the versions that are live, and lets all others drain.
    fn turn(&self, versions: &Versions) {
        self.services.set_router(versions.router());
        self.scheduler.set(&versions.latest());
        for version in versions
            .all()
            .into_iter()
            .filter(|version| !versions.is_live(version))
        {
            let (services, queue) = (self.services.clone(), version.queue());
            let Some(stop) = self.stops.lock().unwrap().remove(&queue) else {
                continue;
            };
            self.services.spawn(async move {
                stop.run_until_cancelled(drained(&services, &queue)).await;
                stop.cancel();
            });
        }
    }

    /// Starts a worker; what it does with each job is the luck of these dice. Without dice it does them all.
    pub fn employ(&self, jobs: &Arc<Jobs>, dice: Option<Random>) {
        let worker = Worker {
            services: self.services.clone(),
            jobs: jobs.clone(),
            dice,
        };
        self.services.spawn(worker.run());
    }

    /// Replaces a function by another version of it, which may share with the one before; as a deployment does.
    pub fn redeploy(&self, index: usize, before: Option<u64>) {
        let mut versions = self.pipeline.versions();
        self.run(versions.deploy(index, before));
        self.turn(&versions);
    }

    /// Lets no schedule fire any more.
    pub fn stop_schedules(&self) {
        self.scheduler.set(&[]);
    }

    /// What somebody does with the dead letters of the moment.
    pub async fn tidy(&self, tidying: Tidying) {
        let letters = DeadLetters::new(self.services.clone());
        let Ok(found) = letters.list(&LetterFilter::default(), 20).await else {
            return;
        };
        let ids: Vec<String> = found.iter().map(DeadLetter::id).collect();
        // Done or not: the ledger of the store knows.
        let _answer = match tidying {
            Tidying::Drop => letters.drop_all(&ids).await,
            Tidying::Redrive(rate) => letters.redrive_all(&ids, rate).await,
        };
    }

    /// An event from outside.
    pub fn event(&self, kind: usize, id: String) -> Event {
        Event {
            source: "/events".into(),
            kind: format!("T{kind}"),
            subject: None,
            time: self.services.clock.now_ms(),
            content_type: Some("application/json".into()),
            data: Bytes::from(json!({ "user": user(self.services.clock.now_ms()) }).to_string()),
            traceparent: self.services.new_traceparent(),
            run: id.clone(),
            id,
            parent: None,
            part_of: None,
        }
    }

    /// Takes in an event from outside as a trigger does: where there is room for it.
    pub async fn offer(&self, event: Event) -> Result<(), NoRoom> {
        has_room(&self.services, &event).await?;
        // Whether it was committed only the store knows.
        let _answer = self.take_in(event).await;
        Ok(())
    }

    /// Takes in an event, whoever waits.
    pub async fn take_in(&self, event: Event) -> Result<(), CommitError> {
        let mut draft = Draft::new(&self.services);
        draft.event(event, None);
        draft.commit().await
    }
}

/// What is done with dead letters.
#[derive(Debug, Clone, Copy)]
pub enum Tidying {
    /// They are dropped.
    Drop,
    /// They are sent through again, so many a second.
    Redrive(Option<f64>),
}

/// What a worker says of a job.
enum Verdict {
    Done,
    Again,
    Failed,
    /// Nothing: somebody cancels it.
    Cancelled,
}

/// A worker that is not always what one would wish.
struct Worker {
    services: Arc<Services>,
    jobs: Arc<Jobs>,
    dice: Option<Random>,
}

impl Worker {
    async fn run(mut self) {
        let worker = jobs::Worker {
            name: "worker".into(),
            kinds: vec![JOB.into()],
            ..jobs::Worker::default()
        };
        while !self.services.stopping.is_cancelled() {
            // A worker may hang up while it waits.
            let patience = self.dice.as_mut().map_or(5000, |dice| dice.within(50, 5000));
            let leased = tokio::select! {
                biased;
                () = self.services.stopping.cancelled() => return,
                () = self.pause(patience) => continue,
                leased = self.jobs.lease(&worker, Duration::from_secs(5)) => leased,
            };
            match leased {
                Ok(Some(leased)) => self.work(leased).await,
                Ok(None) => {}
                Err(_) => self.pause(100).await,
            }
        }
    }

    async fn work(&mut self, leased: Leased) {
        let Some(mut dice) = self.dice.take() else {
            return self.tell(&leased, Verdict::Done).await;
        };
        let verdict = self.work_by_luck(&leased, &mut dice).await;
        self.dice = Some(dice);
        if let Some(verdict) = verdict {
            self.tell(&leased, verdict).await;
        }
    }

    /// Works for a while, and comes to a verdict or falls silent.
    async fn work_by_luck(&self, leased: &Leased, dice: &mut Random) -> Option<Verdict> {
        for _ in 0..dice.below(4) {
            let silence = if dice.once_in(100) { 20_000 } else { 3000 };
            let silence = dice.below(silence);
            self.pause(silence).await;
            let beat = self.jobs.heartbeat(&leased.job.id, &leased.token, None);
            if beat.await.is_err() {
                return None;
            }
        }
        match dice.below(10) {
            0 => None,
            1 => Some(Verdict::Again),
            2 => Some(Verdict::Failed),
            3 => Some(Verdict::Cancelled),
            _ => Some(Verdict::Done),
        }
    }

    /// Tells the host how a job ended until it has an answer, or gives up.
    async fn tell(&self, leased: &Leased, verdict: Verdict) {
        let (id, token) = (&leased.job.id, &leased.token);
        for _ in 0..5 {
            let told = match verdict {
                Verdict::Done => self.jobs.complete(id, token, json!({})).await,
                Verdict::Again => self.jobs.fail(id, token, "no luck", true).await,
                Verdict::Failed => self.jobs.fail(id, token, "no way", false).await,
                Verdict::Cancelled => match self.jobs.cancel(id).await {
                    Err(CancelError::Commit(error)) => Err(error.into()),
                    _ => Ok(()),
                },
            };
            match told {
                Err(EndError::Commit(CommitError::Store(_))) => self.pause(200).await,
                _ => return,
            }
        }
    }

    async fn pause(&self, millis: u64) {
        self.services.clock.sleep(Duration::from_millis(millis)).await;
    }
}
