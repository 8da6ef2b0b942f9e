//! Draining: a version that is not routed to any more goes on until its events are done.

use std::time::Duration;

use crate::services::Services;
use crate::store::Depth;

/// The pause between two looks at the queue.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until a queue that the present routing table does not know is empty, and nothing can come into it.
///
/// A unit in the making may still be routed by a table from before, so those have to be gone first. The queue has
/// to be found empty twice: a unit whose author gave up waiting is in the store a moment later.
pub async fn drained(services: &Services, queue: &str) {
    let mut looks = 0;
    while looks < 2 {
        services.clock.sleep(PAUSE).await;
        looks = if is_empty(services, queue).await {
            looks + 1
        } else {
            0
        };
    }
}

async fn is_empty(services: &Services, queue: &str) -> bool {
    services.routes_anew()
        && services
            .store
            .depth(queue)
            .await
            .is_ok_and(|depth| depth == Depth::default())
}
