//! What a back-up says of itself, and why one is refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The format that this code writes and reads.
pub(super) const FORMAT: u64 = 1;
/// The last entry.
pub(super) const LAST: &str = "backup.json";

/// What the entries of a tar file are filled up to.
pub(super) const BLOCK: usize = 512;
/// What follows the last one.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What is in a back-up: its last entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The format of the file.
    pub format: u64,
    /// The version of the host that wrote it.
    pub tidegate: String,
    /// The back-end and its layout: only the same takes it back.
    pub store: String,
    /// The moment that it is of, in milliseconds since the epoch.
    pub moment: u64,
    /// Parts.
    pub parts: u64,
    /// Rows.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of rows and blobs.
    pub bytes: u64,
    /// The SHA-256 of all sums, one after another.
    pub sums: String,
}

/// Why a back-up is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It ends before its last entry.
    #[error("`{}` is not whole: it ends before `{LAST}`, so its back-up was broken off", .0.display())]
    BrokenOff(PathBuf),
    /// It is not what was written.
    #[error("`{}` is damaged: {why}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another version wrote it.
    #[error("`{}` has format {found}, this tidegate reads {FORMAT}", .file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It cannot be read.
    #[error("cannot read `{}`", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A digest in hexadecimal.
pub(super) fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
