//! One run of a pipeline that has everything in it, again and again: each time another store call goes wrong, and
//! the world ends as if none had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tidegate_runtime::clock::Clock;
use tidegate_runtime::jobs::{Jobs, Limits};
use tidegate_runtime::records::{KeptRequests, Records, RunState, StepRecord};
use tidegate_runtime::sandbox::derived_id;
use tidegate_runtime::store::Store;
use tidegate_runtime::store::embedded::Embedded;
use tidegate_runtime::store::memory::Memory;
use tidegate_runtime::world::World;

use crate::executor::{EPOCH, Executor, Node};
use crate::faulty::{Faulty, Moment};
use crate::guests::Guests;
use crate::invariants;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::pipeline::{BUCKET, Pipeline};
use crate::process::Process;
use crate::turn::{Blow, InTurn, Turn};

/// Nobody's turn.
const UNBROKEN: Turn = Turn {
    call: 0,
    moment: Moment::Before,
    blow: Blow::Failure,
};
/// How much faster the clock goes where time cannot be made up.
const FASTER: u32 = 20;
/// Runs at one time where each takes real time.
const AT_ONCE: usize = 8;
/// How long a run may take to come to rest.
const REST: Duration = Duration::from_secs(600);

/// What a run leaves behind, without what differs from run to run: times, random ids, names of blobs.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// Function or job, type and subject of the event, state and attempt.
    steps: Vec<String>,
    counters: BTreeMap<String, u64>,
    objects: Vec<String>,
    violations: Vec<String>,
}

/// The parts of one run.
#[derive(Clone)]
struct Run {
    pipeline: Arc<Pipeline>,
    ledger: Arc<Mutex<Ledger>>,
    plan: Arc<InTurn>,
    inner: Arc<dyn Store>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Run {
    fn records(&self) -> Records {
        Records::new(self.inner.clone(), KeptRequests::default())
    }

    fn new(turn: Turn, inner: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let pipeline = Arc::new(Pipeline::of_everything().unwrap());
        let ledger = Arc::new(Mutex::new(Ledger {
            keys: Keys::of(&pipeline.functions),
            ..Ledger::default()
        }));
        let plan = Arc::new(InTurn::new(turn, clock.clone(), ledger.clone()));
        Self {
            pipeline,
            store: Arc::new(Faulty::new(inner.clone(), plan.clone())),
            ledger,
            plan,
            inner,
            clock,
        }
    }

    /// Starts a platform, and sends the event as a client does that looks whether it was taken in.
    fn start(&self, world: World) -> Process {
        let guests = Guests::new(self.pipeline.clone(), self.ledger.clone());
        let process = Process::start(world, self.store.clone(), &self.pipeline, Arc::new(guests));
        process.employ(&Jobs::start(process.services.clone(), Limits::default()), None);
        let (run, sender) = (self.clone(), process.clone());
        process.services.spawn(async move {
            let event = sender.event(0, "root".into());
            while run.records().run("root").await.unwrap().is_none() {
                let _taken_or_not = sender.take_in(event.clone()).await;
                run.clock.sleep(Duration::from_millis(100)).await;
            }
        });
        process
    }

    /// Waits until nothing is queued any more, and every step has ended.
    async fn rest(&self) {
        let until = self.clock.now_ms() + REST.as_millis() as u64;
        loop {
            self.clock.sleep(Duration::from_millis(200)).await;
            let waiting = self.pipeline.waiting(&*self.inner).await.unwrap();
            let run = self.records().run("root").await.unwrap();
            let ended = run.is_some_and(|run| run.state != RunState::Running);
            if waiting.is_empty() && ended {
                return;
            }
            assert!(
                self.clock.now_ms() < until,
                "not at rest, still queued: {waiting:?}"
            );
        }
    }

    /// What is left behind, and the number of calls.
    async fn end(self) -> (End, u64) {
        let mut ledger = std::mem::take(&mut *self.ledger.lock().unwrap());
        let checked = invariants::check(&self.pipeline, &*self.inner, &mut ledger).await;
        checked.unwrap();
        let run = self.records().run("root").await.unwrap();
        let steps = run.map(|run| run.steps).unwrap_or_default();
        let mut steps: Vec<String> = steps.iter().map(shown).collect();
        steps.sort();
        let page = self.inner.list(BUCKET, "", None, 100).await.unwrap();
        let end = End {
            steps,
            counters: invariants::counters(&*self.inner).await.unwrap(),
            objects: page.entries.into_iter().map(|meta| meta.key).collect(),
            violations: ledger.violations,
        };
        (end, self.plan.calls())
    }
}

fn shown(step: &StepRecord) -> String {
    let subject = step.subject.as_deref().unwrap_or_default();
    let (function, kind, state, attempt) = (&step.function, &step.kind, step.state, step.attempt);
    if function.starts_with("job:") {
        // A worker that never came to know of its lease has made an attempt all the same.
        return format!("{function} {kind} {subject} {state:?}");
    }
    format!("{function} {kind} {subject} {state:?} {attempt}")
}

/// A run on the memory store, in a world of its own.
fn in_memory(turn: Turn) -> (End, u64) {
    let executor = Executor::new(7);
    let memory = Arc::new(Memory::with_clock(executor.clock()));
    let run = Run::new(turn, memory.clone(), executor.clock());
    let world = executor.clone();
    let ran = executor.run(async move {
        let mut _process = run.start(world.world(Node::Platform));
        loop {
            tokio::select! {
                biased;
                () = run.plan.crash.notified() => {
                    world.crash(Node::Platform);
                    memory.crash();
                    _process = run.start(world.world(Node::Platform));
                }
                () = run.rest() => break,
            }
        }
        world.crash(Node::Platform);
        run.end().await
    });
    ran.unwrap()
}

/// A clock that goes faster than the machine's.
struct Fast(Instant);

#[async_trait]
impl Clock for Fast {
    fn now_ms(&self) -> u64 {
        EPOCH + self.0.elapsed().as_millis() as u64 * u64::from(FASTER)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time / FASTER).await;
    }
}

/// A run on the embedded store, in real time, only faster.
async fn embedded(turn: Turn) -> (End, u64) {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(Fast(Instant::now()));
    let store = Arc::new(Embedded::open_with_clock(folder.path(), clock.clone()).unwrap());
    let run = Run::new(turn, store, clock.clone());
    let process = run.start(World::real(clock));
    run.rest().await;
    process.services.stopping.cancel();
    process.services.wait().await;
    run.end().await
}

fn turns(calls: u64, blows: &[Blow]) -> Vec<Turn> {
    let blows = blows
        .iter()
        .flat_map(|blow| [(Moment::Before, *blow), (Moment::After, *blow)]);
    let of_call = |(moment, blow)| (1..=calls).map(move |call| Turn { call, moment, blow });
    blows.flat_map(of_call).collect()
}

/// What the run without a fault leaves behind.
fn check_whole(end: &End) {
    assert_eq!(end.violations, Vec::<String>::new());
    assert_eq!(
        end.counters,
        [("f0", 1), ("f1", 1), ("f2", 1), ("f4", 3), ("f5", 3), ("hot", 2)]
            .map(|(k, n)| (k.to_owned(), n))
            .into()
    );
    let job = derived_id("f2", &derived_id("f0", "root", 0), 0);
    let steps = [
        "$join tidegate.join  Done 1",
        "f0 T0  Done 1",
        "f1 tidegate.object.created out/1/f0/root Done 2",
        "f2 T2  Done 2",
        &format!("f3 T3 {job} Dead 1"),
        "f4 T4  Done 2",
        "f4 T4  Done 2",
        "f4 T4  Done 2",
        "f5 T5  Done 1",
        "f5 T5  Done 1",
        "f5 T5  Done 1",
        "job:sim.work sim.work  Done",
    ];
    assert_eq!(end.steps, steps);
}

#[test]
fn any_store_call_may_fail_or_be_the_last_of_the_process() {
    let (whole, calls) = in_memory(UNBROKEN);
    check_whole(&whole);
    assert!(calls > 30, "a run of {calls} calls has not everything in it");
    for turn in turns(calls, &[Blow::Failure, Blow::Crash]) {
        let (end, _) = in_memory(turn);
        assert_eq!(end, whole, "{turn:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_of_the_embedded_store_may_fail() {
    let (whole, calls) = embedded(UNBROKEN).await;
    check_whole(&whole);
    let mut waiting = turns(calls, &[Blow::Failure]).into_iter();
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(turn) = waiting.next()
        {
            running.spawn(async move { (turn, embedded(turn).await.0) });
        }
        let Some(ended) = running.join_next().await else {
            return;
        };
        let (turn, end) = ended.unwrap();
        assert_eq!(end, whole, "{turn:?}");
    }
}
