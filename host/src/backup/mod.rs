//! Back-ups: one tar file of all that a store holds at one moment, and how it becomes a store again.
//!
//! The file is a row of parts. A part is `rows/N.jsonl`, the `blobs/NAME` that its rows speak of, and `sums/N.sha256`,
//! which `sha256sum --check` understands. The last entry is `backup.json`: a file without it was broken off. Everything
//! is written and read as a stream, a part at a time.

mod format;
mod read;
mod write;

pub use format::{Summary, Unreadable};
pub use read::{check, restore};
pub use write::stream;

#[cfg(test)]
mod tests;
