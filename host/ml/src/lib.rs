//! What Tidegate knows of machine learning: pure records and rules, compiled into the host and into guests.
//!
//! - [`reference`](mod@reference): how a function names a model.
//! - [`registry`]: model versions and aliases, and where they lie in the state table.
//! - [`promotion`]: when a new version takes the place of the one in production.
//! - [`metrics`]: how good a ranking or a probability is.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod metrics;
pub mod promotion;
pub mod reference;
pub mod registry;
