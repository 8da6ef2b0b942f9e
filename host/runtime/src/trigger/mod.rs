//! Triggers: from the outside world to an event in a durable queue. They never run a guest.

mod cron;
mod object;
mod router;
mod schedule;

pub use cron::{latest_fire, next_fire, parse_cron};
pub use object::object_created;
pub use router::{INVOKE, OBJECT_CREATED, RouteError, Router, clash};
pub use schedule::Scheduler;
