//! Records: what ran, when, how it ended, and what it logged. Those of events commit with the effects they
//! tell of; those of requests are written in the background.

mod logs;
mod notice;
mod past;
mod requests;
mod running;
mod runs;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use logs::{FoundLines, Level, LogBuffer, LogFilter, LogLine, Logged, log_writes};
pub use notice::{Notice, NoticeKind};
pub use past::{EFFECTS, EVENTS, KEEP_PAST, LARGEST_PAST, effects_write, event_write};
pub use requests::{Handled, KeptRequests, RequestFilter, RequestRecord, keep};
pub use running::Running;
pub use runs::{Batched, RunDetail, RunHead, RunState, RunSummary, StepRecord, StepState, run_written};

use crate::store::Store;

/// The table of runs and steps.
pub const RUNS: &str = "$runs";
/// The table of requests, by their runs.
pub const REQUESTS: &str = "$requests";
/// The table of log lines.
pub const LOGS: &str = "$logs";

/// Notices a slow follower may lag behind before it loses the oldest.
const NOTICES: usize = 16_384;

/// The records of a platform.
pub struct Records {
    store: Arc<dyn Store>,
    notices: broadcast::Sender<Arc<Notice>>,
    running: Arc<running::Steps>,
    requests: requests::Requests,
}

impl Records {
    /// Records kept in `store`, with so many requests among them.
    pub fn new(store: Arc<dyn Store>, requests: KeptRequests) -> Self {
        Self {
            store,
            notices: broadcast::channel(NOTICES).0,
            running: Arc::default(),
            requests: requests::Requests::new(requests),
        }
    }

    /// Follows what happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    /// Whether anybody follows.
    pub fn is_followed(&self) -> bool {
        self.notices.receiver_count() > 0
    }

    /// Tells the followers.
    pub fn tell(&self, notice: impl FnOnce() -> Notice) {
        if self.is_followed() {
            let _nobody_listens_any_more = self.notices.send(Arc::new(notice()));
        }
    }
}
