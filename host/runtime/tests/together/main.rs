//! Events that belong together, with real guests on the real platform: batches.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod batches;
mod bench;
