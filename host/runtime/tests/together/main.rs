//! Events that belong together, with real guests on the real platform: batches, and joins.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod batches;
mod bench;
mod joins;
