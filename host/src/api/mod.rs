//! The faces of the host, one file each.

pub mod error;
pub mod gateway;
pub mod guard;
pub mod metrics;
pub mod objects;
pub mod oip;
mod outgoing;
pub mod s3;
pub mod scoring;
mod traced;
pub mod v1;
pub mod worker;

use std::sync::Arc;

use tidegate_runtime::Platform;
use tidegate_trace::Spans;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::inference::WorkerPool;
use crate::recorder::Recorder;
use metrics::HostMetrics;

/// What every face works on.
#[derive(Clone)]
pub struct Faces {
    /// The platform.
    pub platform: Arc<Platform>,
    /// The workers that answer inference requests.
    pub workers: Arc<WorkerPool>,
    /// The places of clients' inference requests, over either protocol.
    pub inferences: Arc<Semaphore>,
    /// What is left of the memory for bodies of inference requests over HTTP, in KiB.
    pub bodies: Arc<Semaphore>,
    /// Keeps requests and responses.
    pub recorder: Recorder,
    /// What the host counts itself.
    pub metrics: Arc<HostMetrics>,
    /// Where spans go.
    pub spans: Spans,
    /// The bounds.
    pub config: Arc<Config>,
    /// What workers use.
    pub usages: Arc<worker::Usages>,
    /// What workers present.
    pub credentials: Arc<worker::Credentials>,
    /// One turn: whoever has it backs the store up.
    pub backups: Arc<Semaphore>,
    /// Cancelled when the host drains: followers and long polls end.
    pub stopping: CancellationToken,
}
