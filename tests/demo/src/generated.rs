//! Generates interactions with the app's own generator, natively, into a folder.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use feed_ranking::generate::{Format, Settings, generate};
use feed_ranking::table::Stage;

use crate::screen::Step;

/// What is generated: the app's usual numbers of users and items.
const USERS: u32 = 10_000;
const ITEMS: u32 = 50_000;
const DAYS: u32 = 30;
/// The same seed gives the same rows.
pub const SEED: u64 = 42;

/// Writes `rows` interactions as CSV into a folder; the file.
pub fn write(folder: &Path, rows: u64, step: &Step) -> Result<PathBuf> {
    let settings = Settings {
        users: USERS,
        items: ITEMS,
        interactions: rows,
        days: DAYS,
        seed: SEED,
        format: Format::Csv,
    };
    let mut stage = Folder { folder, step };
    let key = generate(&settings, &mut stage).context("cannot generate interactions")?;
    Ok(folder.join(file_name(&key)))
}

/// A stage whose objects are files.
struct Folder<'f> {
    folder: &'f Path,
    step: &'f Step<'f>,
}

impl Stage for Folder<'_> {
    type Sink = BufWriter<File>;

    fn create(&mut self, key: &str) -> io::Result<Self::Sink> {
        File::create(self.folder.join(file_name(key))).map(BufWriter::new)
    }

    fn finish(&mut self, mut sink: Self::Sink) -> io::Result<()> {
        sink.flush()
    }

    fn progress(&mut self, done: u64, total: u64, unit: &str) {
        self.step
            .progress(done, Some(total).filter(|total| *total > 0), unit);
    }
}

fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
