//! Tasks of the machine's own threads, and what becomes of those that hold a thread for long.
//!
//! A guest that computes yields every few milliseconds, but a thread that is handed such slices all the time hardly
//! ever looks for what came in by the network: two busy guests on two cores made every other request wait for most of
//! a second. So a task starts in the foreground, and once it has held its thread for long, or expects to, it goes on in
//! the background: on as many threads of another runtime, which the operating system takes turns with, and lets wait
//! where it must.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Runtime};

use crate::world::Task;

/// Held for longer by one poll, a thread is held for long. A task moves at its second such poll in a row: a single one may
/// be long because the operating system gave the thread's core to others.
const LONG: Duration = Duration::from_millis(2);
/// By how much the background's threads are nicer than the others.
const NICER: i32 = 5;

/// None where the operating system gave no threads: then every task stays where it is.
static BACKGROUND: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let started = Builder::new_multi_thread()
        .thread_name("tidegate-background")
        .on_thread_start(give_way)
        .enable_all()
        .build();
    started
        .inspect_err(|error| tracing::warn!(%error, "no threads for the background"))
        .ok()
});

/// Lowers the priority of the thread that calls: on Linux, threads have priorities of their own.
fn give_way() {
    let lowered = getpriority_process(None).and_then(|now| setpriority_process(None, now + NICER));
    if let Err(error) = lowered {
        tracing::debug!(%error, "a thread of the background keeps its priority");
    }
}

thread_local! {
    /// Whether the task that was polled last expects to hold its thread for long.
    static STEPS_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Moves the task that calls it to the background, where it began in the foreground.
pub(crate) async fn step_back() {
    STEPS_BACK.set(true);
    tokio::task::yield_now().await;
}

/// Does what holds a thread for long, on a thread of the background.
pub(crate) async fn blocking(work: impl FnOnce() + Send + 'static) {
    match &*BACKGROUND {
        Some(background) => {
            let done = background.spawn_blocking(work).await;
            if let Err(error) = done {
                tracing::error!(%error, "work in the background ended early");
            }
        }
        None => work(),
    }
}

/// A task that runs in the foreground for as long as it holds no thread for long.
pub(crate) struct Foreground {
    /// None once it has moved.
    task: Option<Task>,
    /// Whether its last poll was long.
    was_long: bool,
}

impl Foreground {
    pub(crate) fn new(task: Task) -> Self {
        Self {
            task: Some(task),
            was_long: false,
        }
    }
}

impl Future for Foreground {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.task else {
            return Poll::Ready(());
        };
        STEPS_BACK.set(false);
        let began = Instant::now();
        if task.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let is_long = began.elapsed() >= LONG;
        let is_long_again = std::mem::replace(&mut self.was_long, is_long) && is_long;
        if !is_long_again && !STEPS_BACK.get() {
            return Poll::Pending;
        }
        match (&*BACKGROUND, self.task.take()) {
            (Some(background), Some(task)) => {
                background.spawn(task);
                Poll::Ready(())
            }
            (_, task) => {
                self.task = task;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_task_that_holds_its_thread_for_long_goes_on_in_the_background() {
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(Foreground::new(Box::pin(async move {
            let mut threads = Vec::new();
            for _ in 0..3 {
                threads.push(thread() == "tidegate-background");
                std::thread::sleep(2 * LONG);
                tokio::task::yield_now().await;
            }
            tell.send(threads).unwrap();
        })));
        assert_eq!(told.await.unwrap(), [false, false, true]);
    }

    #[tokio::test]
    async fn a_task_that_steps_back_goes_on_in_the_background_at_once() {
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(Foreground::new(Box::pin(async move {
            step_back().await;
            tell.send(thread()).unwrap();
        })));
        assert_eq!(told.await.unwrap(), "tidegate-background");
    }

    #[tokio::test]
    async fn a_task_that_only_waits_stays_where_it_is() {
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(Foreground::new(Box::pin(async move {
            tokio::time::sleep(3 * LONG).await;
            tell.send(thread()).unwrap();
        })));
        assert_ne!(told.await.unwrap(), "tidegate-background");
    }
}
