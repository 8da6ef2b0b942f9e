//! What the worker's process and its devices use, told to the host every few seconds.

use std::time::Duration;

use serde::Serialize;

use crate::devices::{self, Gpu};
use crate::host::Host;
use crate::inference::budget::resident;

/// How often it is told; the host takes what is older than some of these for gone.
const EVERY: Duration = Duration::from_secs(5);

/// What is told.
#[derive(Debug, Serialize)]
pub struct Usage<'a> {
    /// The worker's name.
    worker: &'a str,
    /// Seconds of CPU time since the process began, of all of its threads.
    cpu_seconds: f64,
    /// Its memory.
    memory_bytes: u64,
    /// The NVIDIA devices that it may use, whoever uses them.
    gpus: Vec<Gpu>,
}

/// Tells it for as long as it is polled.
pub async fn tell(host: Host, worker: String) {
    loop {
        let gpus = tokio::task::spawn_blocking(devices::gpus)
            .await
            .unwrap_or_default();
        let usage = Usage {
            worker: &worker,
            cpu_seconds: cpu_seconds(),
            memory_bytes: resident(),
            gpus,
        };
        if let Err(error) = host.tell_usage(&usage).await {
            tracing::debug!(%error, "the host does not know what this worker uses");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Seconds of CPU time of this process; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything. The 14th and 15th fields follow: time of its own, and the
    // system's for it, in ticks.
    let fields = told.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_takes_time() {
        let (before, since) = (cpu_seconds(), std::time::Instant::now());
        while cpu_seconds() <= before {
            assert!(since.elapsed() < Duration::from_secs(60), "no time was counted");
        }
        assert!(resident() > 0);
    }
}
