//! One simulation: a random pipeline, events, crashes and deployments in a storm, then calm, then the checks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_runtime::jobs::{Jobs, Limits};
use tidegate_runtime::store::Store;
use tidegate_runtime::store::memory::Memory;

use crate::executor::{Executor, Node};
use crate::faulty::Faulty;
use crate::guests::Guests;
use crate::invariants;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::process::{Process, Tidying};
use crate::random::Random;
use crate::storm::Storm;

/// How long a pipeline may take to come to rest once the weather is calm.
const REST: Duration = Duration::from_secs(3600);

/// How long schedules may take to come up to the present once the weather is calm, in milliseconds.
const CATCH_UP: u64 = 5000;

/// From this on, fires that a process was not there for may be missed ones; in milliseconds.
const LONG: u64 = 50_000;

/// The workers of a process.
const WORKERS: usize = 2;

/// What lasts longer than a process.
struct Scenario {
    executor: Executor,
    pipeline: Arc<Pipeline>,
    memory: Arc<Memory>,
    store: Arc<dyn Store>,
    storm: Arc<Storm>,
    guests: Arc<Guests>,
    dice: Random,
}

/// Runs the simulation of a seed, and hands back all that happened; its violations are what must not be.
pub fn simulate(seed: u64) -> Ledger {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let ran = run(seed, &ledger);
    let mut ledger = std::mem::take(&mut *ledger.lock().unwrap());
    if let Err(error) = ran {
        ledger.violation(error);
    }
    ledger
}

fn run(seed: u64, ledger: &Arc<Mutex<Ledger>>) -> Result<(), String> {
    let executor = Executor::new(seed);
    let pipeline = Arc::new(Pipeline::of(seed)?);
    ledger.lock().unwrap().keys = Keys::of(&pipeline.functions);
    let memory = Arc::new(Memory::with_clock(executor.clock()));
    let storm = Arc::new(Storm::of(seed, executor.clock(), ledger.clone()));
    let scenario = Scenario {
        store: Arc::new(Faulty::new(memory.clone(), storm.clone())),
        guests: Arc::new(Guests::new(pipeline.clone(), ledger.clone())),
        dice: Random::of(seed, "scenario"),
        executor: executor.clone(),
        pipeline: pipeline.clone(),
        memory: memory.clone(),
        storm,
    };
    let told = ledger.clone();
    executor.run(async move {
        scenario.play(&told).await?;
        let mut ledger = std::mem::take(&mut *told.lock().unwrap());
        let checked = invariants::check(&pipeline, &*memory, &mut ledger).await;
        *told.lock().unwrap() = ledger;
        checked.map_err(|error| error.to_string())
    })?
}

impl Scenario {
    async fn play(mut self, ledger: &Mutex<Ledger>) -> Result<(), String> {
        let mut process = self.start();
        for _ in 0..self.dice.within(3, 12) {
            let pause = self.dice.below(2000);
            self.pause(pause).await;
            match self.dice.below(12) {
                0 => process = self.crash(ledger).await,
                1 => process = self.restart(process, ledger).await,
                2 => {
                    ledger.lock().unwrap().count("deployments");
                    let index = self.dice.below(self.pipeline.functions.len() as u64) as usize;
                    let before = self.dice.once_in(500).then(|| self.dice.within(1, 99));
                    process.redeploy(index, before);
                }
                3 => self.tidy(&process),
                _ => self.send(&process),
            }
        }
        self.storm.calm_down();
        self.pause(CATCH_UP).await;
        process.stop_schedules();
        let until = self.executor.clock().now_ms() - CATCH_UP / 2;
        ledger.lock().unwrap().expect_fires(&self.pipeline, until);
        self.rest().await?;
        self.tidy(&process);
        self.rest().await
    }

    fn start(&mut self) -> Process {
        let world = self.executor.world(Node::Platform);
        let process = Process::start(world, self.store.clone(), &self.pipeline, self.guests.clone());
        let jobs = Jobs::start(process.services.clone(), Limits::default());
        for _ in 0..WORKERS {
            process.employ(&jobs, Some(Random::of(self.dice.next(), "worker")));
        }
        process
    }

    /// Sends an event to one of the first functions.
    fn send(&mut self, process: &Process) {
        let (process, kind) = (process.clone(), self.dice.below(2) as usize);
        self.executor.spawn(Node::Platform, async move {
            // Taken in or not: the ledger of the store knows.
            let event = process.event(kind, process.services.new_id());
            let _answer = process.offer(event).await;
        });
    }

    /// Has somebody look after the dead letters.
    fn tidy(&mut self, process: &Process) {
        let tidying = match self.dice.below(4) {
            0 => Tidying::Drop,
            1 => Tidying::Redrive(Some(self.dice.within(1, 20) as f64)),
            _ => Tidying::Redrive(None),
        };
        let process = process.clone();
        self.executor
            .spawn(Node::Platform, async move { process.tidy(tidying).await });
    }

    /// Ends the process where it stands, and starts another over the same store.
    async fn crash(&mut self, ledger: &Mutex<Ledger>) -> Process {
        ledger.lock().unwrap().count("crashes");
        self.executor.crash(Node::Platform);
        self.memory.crash();
        // Long enough, now and then, for fires to be missed.
        let most = if self.dice.once_in(200) { 300_000 } else { 3000 };
        let down = self.dice.below(most);
        if down > LONG {
            ledger.lock().unwrap().count("long downtimes");
        }
        self.pause(down).await;
        self.start()
    }

    /// Drains the process as a signal would, for a while.
    async fn restart(&mut self, process: Process, ledger: &Mutex<Ledger>) -> Process {
        ledger.lock().unwrap().count("drains");
        process.services.stopping.cancel();
        let clock = self.executor.clock();
        tokio::select! {
            biased;
            () = process.services.wait() => {}
            () = clock.sleep(Duration::from_secs(2)) => {}
        }
        self.executor.crash(Node::Platform);
        self.memory.crash();
        self.start()
    }

    /// Waits until nothing is queued any more.
    async fn rest(&self) -> Result<(), String> {
        let clock = self.executor.clock();
        let until = clock.now_ms() + REST.as_millis() as u64;
        loop {
            self.pause(5000).await;
            let waiting = self.pipeline.waiting(&*self.memory).await?;
            if waiting.is_empty() {
                return Ok(());
            }
            if clock.now_ms() > until {
                return Err(format!("still queued after {REST:?} of calm: {waiting:?}"));
            }
        }
    }

    async fn pause(&self, millis: u64) {
        self.executor.clock().sleep(Duration::from_millis(millis)).await;
    }
}
