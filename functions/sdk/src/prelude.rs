//! What nearly every function needs: `use tidegate_sdk::prelude::*;`.

pub use serde::{Deserialize, Serialize};

pub use crate::{Error, Event, Failure, ObjectCreated, OrReject};
pub use crate::{blocking, config, events, features, inference, jobs, log, objects, state};
