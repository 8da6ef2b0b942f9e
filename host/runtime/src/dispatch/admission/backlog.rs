//! Backlogs: a function for which enough events wait takes no more from outside, until it has handled some.
//!
//! Triggers ask before they take anything. What steps emit, what is tried again and what is redriven was taken before,
//! and always finds room: to refuse it would be to lose it, or to hold up the step that empties the queue.

use crate::event::Event;
use crate::services::Services;
use crate::store::StoreError;
use crate::trigger::Router;

/// A function that takes no more events from outside for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} events wait for function `{function}`, its `limits.backlog` is {bound}; try again later")]
pub struct Full {
    /// The function.
    pub function: String,
    /// The events that wait for it, those that are handled or held back included.
    pub waiting: u64,
    /// How many may wait.
    pub bound: u64,
}

/// Why a trigger does not take an event.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoRoom {
    /// A function that it is for has its backlog.
    #[error(transparent)]
    Full(#[from] Full),
    /// The store does not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refuses an event from outside where a function that it may go to has its backlog; and counts that.
///
/// Nothing is reserved: of events that come at one moment, some may be taken beyond the bound. A store that is shared
/// may tell how full a queue was a moment ago.
pub async fn has_room(services: &Services, event: &Event) -> Result<(), NoRoom> {
    let router = services.router();
    for function in router.listeners(event) {
        let bounds = router.versions(&function).map(|version| version.limits.backlog);
        let Some(bound) = bounds.max() else { continue };
        let waiting = waiting(services, &router, &function).await?;
        if waiting >= bound {
            services.metrics.refused(&function, event.trigger(), "backlog");
            return Err(NoRoom::Full(Full {
                function,
                waiting,
                bound,
            }));
        }
    }
    Ok(())
}

/// The events in the queues of a function's versions.
async fn waiting(services: &Services, router: &Router, function: &str) -> Result<u64, StoreError> {
    let mut waiting = 0;
    for version in router.versions(function) {
        let depth = services.store.recent_depth(&version.queue()).await?;
        waiting += depth.ready + depth.delayed;
    }
    Ok(waiting)
}
