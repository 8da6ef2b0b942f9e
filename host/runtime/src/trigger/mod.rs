//! Triggers: from the outside world to an event in a durable queue. They never run a guest.

mod object;
mod router;
mod schedule;

pub use object::object_created;
pub use router::{OBJECT_CREATED, RouteError, Router};
pub use schedule::{Scheduler, next_fire, parse_cron};
