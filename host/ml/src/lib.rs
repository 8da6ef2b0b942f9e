//! What Tidegate knows of machine learning: pure records and rules, compiled into the host and into guests.
//!
//! - [`reference`](mod@reference): how a function names a model.
//! - [`registry`]: model versions and aliases, and where they lie in the state table.
//! - [`promotion`]: when a new version takes the place of the one in production.
//! - [`rollout`]: how a version takes the champion's requests over in stages, or gives them back.
//! - [`metrics`]: how good a ranking or a probability is.
//! - [`sketch`]: how values are distributed, and how far others drift from them.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod metrics;
pub mod promotion;
pub mod reference;
pub mod registry;
pub mod rollout;
pub mod sketch;
