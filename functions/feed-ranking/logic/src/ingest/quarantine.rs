//! The rows that could not be read, each with its line and reason, as far as the bounds allow.

use serde::Serialize;

/// Bytes that are kept of all rows together.
const BYTES: usize = 4 << 20;
/// Characters that are kept of one row.
const SHOWN: usize = 500;

#[derive(Serialize)]
struct Entry<'a> {
    line: u64,
    reason: &'a str,
    row: &'a str,
}

/// The rows that could not be read.
#[derive(Default)]
pub(super) struct Quarantine {
    lines: Vec<u8>,
    count: u64,
    first: Option<String>,
}

impl Quarantine {
    /// Adds a row.
    pub(super) fn add(&mut self, line: u64, reason: &str, row: &str) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("line {line}: {reason}"));
        }
        if self.lines.len() >= BYTES {
            return;
        }
        let row: String = row.chars().take(SHOWN).collect();
        if let Ok(entry) = serde_json::to_vec(&Entry {
            line,
            reason,
            row: &row,
        }) {
            self.lines.extend_from_slice(&entry);
            self.lines.push(b'\n');
        }
    }

    /// How many there are, kept or not.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first of them in words.
    pub(super) fn first(&self) -> &str {
        self.first.as_deref().unwrap_or("none")
    }

    /// What was kept, as JSON Lines.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }
}
