//! Real guests on the real platform: hostile, odd, one at a time and together.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod batches;
mod bench;
mod deployments;
mod joins;
mod limits;
mod requests;
mod steps;
mod tasks;
