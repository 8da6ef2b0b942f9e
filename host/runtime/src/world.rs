//! The world outside: time, chance and tasks. Everything that would make two runs of one program differ.
//!
//! The platform takes them from here and from nowhere else, so that a simulation can put others in their place
//! and replay a run from its seed.

use std::pin::Pin;
use std::sync::Arc;

use tidegate_trace::Spans;

use crate::clock::Clock;
use crate::foreground::Foreground;

/// A task that runs by itself.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Draws numbers.
pub trait Chance: Send + Sync + 'static {
    /// Any number, each as likely as another.
    fn draw(&self) -> u64;
}

/// Runs tasks.
pub trait Spawner: Send + Sync + 'static {
    /// Runs a task to its end, beside all others.
    fn spawn(&self, task: Task);
}

/// The world that a platform lives in.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub chance: Arc<dyn Chance>,
    /// Tasks.
    pub spawner: Arc<dyn Spawner>,
    /// Who wants to see what was done: nobody, where there is no collector.
    pub spans: Spans,
}

impl World {
    /// The machine's own randomness and threads, with a clock.
    pub fn real(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            chance: Arc::new(Machine),
            spawner: Arc::new(Machine),
            spans: Spans::default(),
        }
    }
}

/// The machine that this runs on.
struct Machine;

impl Chance for Machine {
    fn draw(&self) -> u64 {
        rand::random()
    }
}

impl Spawner for Machine {
    fn spawn(&self, task: Task) {
        tokio::spawn(Foreground::new(task));
    }
}
