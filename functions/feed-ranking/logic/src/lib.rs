//! The logic of the feed-ranking app. Everything here but `host` is tested natively, and the
//! components beside it only connect it to their imports.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod digest;
#[cfg(feature = "host")]
pub mod host;
pub mod messages;
pub mod table;

pub mod generate;
pub mod ingest;
pub mod validate;

pub mod evaluate;
pub mod features;
pub mod train;

pub mod rank;
