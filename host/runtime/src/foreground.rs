//! Tasks of the machine's own threads, and what becomes of those that hold a thread for long.
//!
//! A guest that computes yields every few milliseconds, but a thread that is handed such slices all the time hardly
//! ever looks for what came in by the network: two busy guests on two cores made every other request wait for most of
//! a second. So a task starts in the foreground, and once it has held its thread for long it goes on in the background:
//! on as many threads of another runtime, which the operating system takes turns with, and lets wait where it must.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Runtime};

use crate::world::Task;

/// Held for longer at a stretch, a thread is held for long.
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

/// A task that runs in the foreground for as long as it holds no thread for long.
pub(crate) struct Foreground(Option<Task>);

impl Foreground {
    pub(crate) fn new(task: Task) -> Self {
        Self(Some(task))
    }
}

impl Future for Foreground {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.0 else {
            return Poll::Ready(());
        };
        let began = Instant::now();
        if task.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if began.elapsed() < LONG {
            return Poll::Pending;
        }
        match (&*BACKGROUND, self.0.take()) {
            (Some(background), Some(task)) => {
                background.spawn(task);
                Poll::Ready(())
            }
            (_, task) => {
                self.0 = task;
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

    /// The threads that a task found itself on, before and after a pause.
    async fn threads(held: Duration) -> [String; 2] {
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(Foreground::new(Box::pin(async move {
            let first = thread();
            std::thread::sleep(held);
            tokio::task::yield_now().await;
            tell.send([first, thread()]).unwrap();
        })));
        told.await.unwrap()
    }

    #[tokio::test]
    async fn a_task_that_holds_its_thread_for_long_goes_on_in_the_background() {
        let [first, then] = threads(2 * LONG).await;
        assert_ne!(first, "tidegate-background");
        assert_eq!(then, "tidegate-background");
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
