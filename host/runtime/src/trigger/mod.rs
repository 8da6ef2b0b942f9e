//! Triggers: from the outside world to an event in a durable queue. They never run a guest.

mod cron;
mod object;
mod route;
mod router;
mod schedule;
mod split;

pub use cron::{fire_before_latest, latest_fire, next_fire, parse_cron};
pub use object::object_created;
pub use route::{Client, Matched};
pub use router::{INVOKE, OBJECT_CREATED, RouteError, Router, Target, clash};
pub use schedule::Scheduler;
pub use split::{Split, SplitError};
