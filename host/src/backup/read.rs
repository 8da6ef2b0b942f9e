//! Reading: everything is checked before the first row is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry};
use tidegate_runtime::store::{Extent, Refill};
use tokio::sync::mpsc::{Sender, channel};

use super::format::{BLOCK, END, FORMAT, LAST, Summary, Unreadable, hex};

/// Bytes of an entry that is read whole: rows of a part are some megabytes and one row.
const LARGEST: u64 = 1 << 30;
/// Bytes that are read from the file in one go.
const BUFFER: usize = 1 << 20;
/// Entries that are read ahead of the store.
const AHEAD: usize = 1;

/// Checks that a back-up is whole and that each of its bytes is what was written.
pub fn check(file: &Path) -> Result<Summary, Unreadable> {
    let mut checking = Checking::new(file);
    match ends_as_written(file) {
        Ok(true) => {}
        Ok(false) => return Err(Unreadable::BrokenOff(file.into())),
        Err(source) => {
            return Err(Unreadable::Io {
                file: file.into(),
                source,
            });
        }
    }
    let walked = walk(file, |path, entry| checking.entry(path, entry));
    match walked {
        // What is no tar file; failures of the disk are of other kinds.
        Err(Unreadable::Io { source, .. }) if source.kind() == io::ErrorKind::Other => {
            Err(checking.damaged(source.to_string()))
        }
        walked => walked.and_then(|()| checking.end()),
    }
}

/// Whether a file ends in the empty blocks that end a back-up.
fn ends_as_written(file: &Path) -> io::Result<bool> {
    let mut opened = File::open(file)?;
    let len = opened.metadata()?.len();
    if len < END.len() as u64 || !len.is_multiple_of(BLOCK as u64) {
        return Ok(false);
    }
    let mut end = [1; END.len()];
    opened.seek(SeekFrom::Start(len - END.len() as u64))?;
    opened.read_exact(&mut end)?;
    Ok(end == END)
}

/// Writes a back-up that was checked into a store.
pub async fn restore(file: &Path, mut into: Box<dyn Refill>) -> Result<()> {
    let (to, mut pieces) = channel(AHEAD);
    let from = file.to_owned();
    let reading = tokio::task::spawn_blocking(move || pieces_of(&from, &to));
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Rows(rows) => into.rows(rows).await?,
            Piece::Blob { name, offset, len } => {
                let bytes = Extent { file, offset, len };
                let taken = into.blob(&name, bytes).await;
                taken.with_context(|| format!("cannot restore the blob `{name}`"))?;
            }
        }
    }
    reading.await??;
    Ok(into.finish().await?)
}

/// What a store takes in.
enum Piece {
    Rows(Vec<String>),
    Blob { name: String, offset: u64, len: u64 },
}

fn pieces_of(file: &Path, to: &Sender<Piece>) -> Result<(), Unreadable> {
    walk(file, |path, entry| {
        let piece = match path.split_once('/') {
            Some(("rows", _)) => Piece::Rows(text(file, path, entry)?.lines().map(str::to_owned).collect()),
            Some(("blobs", name)) => Piece::Blob {
                name: name.to_owned(),
                offset: entry.raw_file_position(),
                len: entry.size(),
            },
            _ => return Ok(()),
        };
        // The store has failed: it says why.
        let _ = to.blocking_send(piece);
        Ok(())
    })
}

/// Looks at every entry in turn.
fn walk(
    file: &Path,
    mut look: impl FnMut(&str, &mut Entry<'_, BufReader<File>>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let io = |source| Unreadable::Io {
        file: file.into(),
        source,
    };
    let opened = File::open(file).map_err(io)?;
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER, opened));
    for entry in archive.entries().map_err(io)? {
        let mut entry = entry.map_err(io)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        look(&path, &mut entry)?;
    }
    Ok(())
}

fn text(file: &Path, path: &str, entry: &mut impl Read) -> Result<String, Unreadable> {
    let mut text = String::new();
    let read = entry.take(LARGEST).read_to_string(&mut text);
    read.map_err(|source| Unreadable::Io {
        file: file.join(path),
        source,
    })?;
    Ok(text)
}

/// What was seen of a back-up so far.
struct Checking<'f> {
    file: &'f Path,
    /// Digests of the entries of the present part.
    part: BTreeMap<String, String>,
    parts: u64,
    all_sums: Sha256,
    summary: Option<Summary>,
}

impl<'f> Checking<'f> {
    fn new(file: &'f Path) -> Self {
        Self {
            file,
            part: BTreeMap::new(),
            parts: 0,
            all_sums: Sha256::new(),
            summary: None,
        }
    }

    fn damaged(&self, why: String) -> Unreadable {
        Unreadable::Damaged {
            file: self.file.into(),
            why,
        }
    }

    fn entry(&mut self, path: &str, entry: &mut impl Read) -> Result<(), Unreadable> {
        if self.summary.is_some() {
            return Err(self.damaged(format!("`{}` follows `{LAST}`", path.escape_debug())));
        }
        match path.split_once('/') {
            Some(("rows" | "blobs", _)) => {
                let digest = self.digest(entry)?;
                self.part.insert(path.to_owned(), digest);
                Ok(())
            }
            Some(("sums", _)) => self.sums(path, entry),
            _ if path == LAST => self.last(entry),
            _ => Err(self.damaged(format!("`{}` is no entry of a back-up", path.escape_debug()))),
        }
    }

    fn digest(&self, entry: &mut impl Read) -> Result<String, Unreadable> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = entry.read(&mut buffer).map_err(|source| Unreadable::Io {
                file: self.file.into(),
                source,
            })?;
            match buffer.get(..read) {
                Some([]) | None => return Ok(hex(digest.finalize())),
                Some(bytes) => digest.update(bytes),
            }
        }
    }

    /// Holds the entries of a part against their sums.
    fn sums(&mut self, path: &str, entry: &mut impl Read) -> Result<(), Unreadable> {
        let sums = text(self.file, path, entry)?;
        self.parts += 1;
        self.all_sums.update(&sums);
        let mut found = std::mem::take(&mut self.part);
        for line in sums.lines() {
            let told = line.split_once("  ");
            let (sum, of) = told.ok_or_else(|| self.damaged(format!("`{path}` holds no sums")))?;
            match found.remove(of) {
                Some(digest) if digest == sum => {}
                Some(_) => return Err(self.damaged(format!("`{of}` is not what was written"))),
                None => return Err(self.damaged(format!("`{of}` is missing"))),
            }
        }
        match found.keys().next() {
            Some(more) => Err(self.damaged(format!("`{more}` is not among the sums of `{path}`"))),
            None => Ok(()),
        }
    }

    fn last(&mut self, entry: &mut impl Read) -> Result<(), Unreadable> {
        let last = text(self.file, LAST, entry)?;
        let format = serde_json::from_str(&last)
            .ok()
            .and_then(|told: serde_json::Value| told["format"].as_u64());
        if let Some(found) = format.filter(|format| *format != FORMAT) {
            return Err(Unreadable::Format {
                file: self.file.into(),
                found,
            });
        }
        let summary = serde_json::from_str(&last);
        self.summary = Some(summary.map_err(|error| self.damaged(format!("`{LAST}`: {error}")))?);
        Ok(())
    }

    fn end(mut self) -> Result<Summary, Unreadable> {
        let Some(summary) = self.summary.take() else {
            return Err(Unreadable::BrokenOff(self.file.into()));
        };
        let sums = hex(std::mem::take(&mut self.all_sums).finalize());
        if (self.parts, &sums) != (summary.parts, &summary.sums) || !self.part.is_empty() {
            let (found, told) = (self.parts, summary.parts);
            return Err(self.damaged(format!(
                "it has {found} parts with other sums than the {told} that were written"
            )));
        }
        Ok(summary)
    }
}
