//! What the integration tests share: a small data set, a small model, and waiting for a run to end.
//!
//! The tests themselves are one binary, `tests/it`, so that they link once.

mod data;
mod scene;

pub use data::{Flavour, interactions};
pub use scene::{Scene, WITNESS, settled_run};
