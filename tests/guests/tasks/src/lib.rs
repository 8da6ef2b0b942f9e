//! Begins tasks and ends none of them: what a fork bomb is to a process.

use std::future::poll_fn;
use std::task::Poll;

use serde::Deserialize;
use tidegate_sdk::prelude::*;
use wasip3::clocks::monotonic_clock::wait_for;

tidegate_sdk::function!(handle);

const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MILLISECOND;

/// What to do.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Deed {
    /// Wait this many times at one time, and come to an end.
    Together { count: usize },
    /// Begin to wait, again and again, for what does not come.
    Waits,
    /// The same, and return in the middle of it.
    WaitsBehind { count: usize },
    /// Make streams that nobody reads.
    Streams,
}

async fn handle(event: Event) -> Result<(), Failure> {
    match event.json()? {
        Deed::Together { count } => {
            futures::future::join_all((0..count).map(|_| wait_for(MILLISECOND))).await;
        }
        Deed::Waits => begin_waits(usize::MAX).await,
        Deed::WaitsBehind { count } => begin_waits(count).await,
        Deed::Streams => {
            let mut held = Vec::new();
            loop {
                held.push(wasip3::wit_stream::new::<u8>());
            }
        }
    }
    Ok(())
}

/// Begins so many waits and forgets that it did: what is not polled again is still under way.
async fn begin_waits(count: usize) {
    for _ in 0..count {
        let mut wait = Box::pin(wait_for(HOUR));
        poll_fn(|context| {
            let _it_goes_on = wait.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        std::mem::forget(wait);
    }
}
