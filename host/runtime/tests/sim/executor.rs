//! A world in one thread: tasks run in an order that a seed decides, and time passes when all of them wait.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_runtime::clock::Clock;
use tidegate_runtime::world::{Chance, Spawner, Task, World};
use tidegate_trace::Spans;

use crate::random::Random;

/// What the clock shows when a simulation begins.
pub const EPOCH: u64 = 1_700_000_000_000;
/// Polls of one simulation at most: one that needs more goes round in circles.
const POLLS: u64 = 20_000_000;

/// A process: its tasks end together when it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Who looks on, and lets things happen.
    Driver,
    /// The process under test.
    Platform,
}

/// The executor.
#[derive(Clone)]
pub struct Executor(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    ready: Mutex<Ready>,
    chance: Mutex<Random>,
}

/// The tasks that can go on.
struct Ready {
    tasks: Vec<u64>,
    order: Random,
}

struct Inner {
    now: u64,
    ids: u64,
    /// A task is not in its place while it is polled.
    tasks: BTreeMap<u64, (Node, Option<Task>)>,
    timers: BTreeMap<(u64, u64), Waker>,
}

impl Executor {
    /// A world in which nothing has happened.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Shared {
            inner: Mutex::new(Inner {
                now: EPOCH,
                ids: 0,
                tasks: BTreeMap::new(),
                timers: BTreeMap::new(),
            }),
            ready: Mutex::new(Ready {
                tasks: Vec::new(),
                order: Random::of(seed, "order"),
            }),
            chance: Mutex::new(Random::of(seed, "chance")),
        }))
    }

    /// The world as a process of it sees it.
    pub fn world(&self, node: Node) -> World {
        World {
            clock: self.clock(),
            chance: Arc::new(Dice(self.0.clone())),
            spawner: Arc::new(Tasks(self.0.clone(), node)),
            spans: Spans::default(),
        }
    }

    /// The world's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(WorldClock(self.0.clone()))
    }

    /// Runs a task of a process.
    pub fn spawn(&self, node: Node, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(node, Box::pin(task));
    }

    /// Ends every task of a process where it stands.
    pub fn crash(&self, node: Node) {
        let mut inner = self.0.inner();
        let all = std::mem::take(&mut inner.tasks);
        let (gone, left): (BTreeMap<_, _>, _) = all.into_iter().partition(|(_, (at, _))| *at == node);
        inner.tasks = left;
        drop(inner);
        // What a task holds may wake others as it goes: not under the lock.
        drop(gone);
    }

    /// Runs the world until the driver's task has an answer.
    pub fn run<T: Send + 'static>(
        &self,
        driver: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let answer = Arc::new(Mutex::new(None));
        let told = answer.clone();
        self.spawn(Node::Driver, async move {
            let found = driver.await;
            *told.lock().unwrap() = Some(found);
        });
        for _ in 0..POLLS {
            if let Some(answer) = answer.lock().unwrap().take() {
                self.crash(Node::Platform);
                self.crash(Node::Driver);
                return Ok(answer);
            }
            self.step()?;
        }
        Err(format!("the world goes round in circles: {POLLS} polls"))
    }

    /// Polls one task that is ready, any of them; or lets time pass.
    fn step(&self) -> Result<(), String> {
        let Some(id) = self.0.pick() else {
            return self.0.pass_time();
        };
        let task = self
            .0
            .inner()
            .tasks
            .get_mut(&id)
            .and_then(|(_, task)| task.take());
        let Some(mut task) = task else { return Ok(()) };
        let waker = Waker::from(Arc::new(TaskWaker {
            id,
            shared: self.0.clone(),
        }));
        let ended = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut inner = self.0.inner();
        if ended {
            inner.tasks.remove(&id);
        } else if let Some((_, place)) = inner.tasks.get_mut(&id) {
            *place = Some(task);
        }
        Ok(())
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the tasks that are ready, by the luck of the seed.
    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready();
        let bound = ready.tasks.len() as u64;
        if bound == 0 {
            return None;
        }
        let place = ready.order.below(bound) as usize;
        Some(ready.tasks.swap_remove(place))
    }

    fn wake(&self, id: u64) {
        let mut ready = self.ready();
        if !ready.tasks.contains(&id) {
            ready.tasks.push(id);
        }
    }

    /// Shows the time of the next timer, and wakes who waits for it.
    fn pass_time(&self) -> Result<(), String> {
        let mut inner = self.inner();
        let Some(((due, _), _)) = inner.timers.first_key_value() else {
            return Err("every task waits, and none for a time".into());
        };
        let now = inner.now.max(*due);
        inner.now = now;
        let mut woken = Vec::new();
        while let Some(first) = inner.timers.first_entry()
            && first.key().0 <= now
        {
            woken.push(first.remove());
        }
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn spawn(&self, node: Node, task: Task) {
        let mut inner = self.inner();
        inner.ids += 1;
        let id = inner.ids;
        inner.tasks.insert(id, (node, Some(task)));
        drop(inner);
        self.wake(id);
    }
}

struct TaskWaker {
    id: u64,
    shared: Arc<Shared>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.shared.wake(self.id);
    }
}

/// Runs the tasks of one process.
struct Tasks(Arc<Shared>, Node);

impl Spawner for Tasks {
    fn spawn(&self, task: Task) {
        self.0.spawn(self.1, task);
    }
}

struct Dice(Arc<Shared>);

impl Chance for Dice {
    fn draw(&self) -> u64 {
        self.0
            .chance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    }
}

struct WorldClock(Arc<Shared>);

#[async_trait]
impl Clock for WorldClock {
    fn now_ms(&self) -> u64 {
        self.0.inner().now
    }

    async fn sleep(&self, time: Duration) {
        let due = self.now_ms() + time.as_millis() as u64;
        self.sleep_until(due).await;
    }

    async fn sleep_until(&self, time: u64) {
        Sleep {
            shared: self.0.clone(),
            due: time,
            timer: None,
        }
        .await;
    }
}

/// Waits for a time.
struct Sleep {
    shared: Arc<Shared>,
    due: u64,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut inner = shared.inner();
        if inner.now >= self.due {
            return Poll::Ready(());
        }
        let key = self.timer.unwrap_or_else(|| {
            inner.ids += 1;
            (self.due, inner.ids)
        });
        inner.timers.insert(key, context.waker().clone());
        self.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let waker = self.shared.inner().timers.remove(&key);
            drop(waker);
        }
    }
}
