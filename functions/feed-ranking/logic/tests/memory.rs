//! Ingest holds the same memory for a file of any size: measured by an allocator that counts.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use feed_ranking::ingest::{Outcome, Settings, ingest};
use feed_ranking::messages::SourceObject;
use feed_ranking::table::{Source, Stage};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEADER: &[u8] = b"userId,movieId,rating,timestamp\n";
const ROW: u64 = 32;
const DAY: u64 = 86_400;

/// A file of rows of equal length that is nowhere: its bytes are made when they are read.
struct Endless {
    rows: u64,
    days: u64,
}

impl Endless {
    fn row(&self, n: u64) -> String {
        let time = 1_000_000_000 + n.wrapping_mul(2_654_435_761) % self.days * DAY;
        format!("{:08},{:07},{}.5,{time:010}\n", n % 100_000, n % 5_000_000, n % 5)
    }
}

impl Source for Endless {
    fn size(&self) -> u64 {
        HEADER.len() as u64 + self.rows * ROW
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = (offset + len as u64).min(self.size());
        let header = HEADER.len() as u64;
        let mut bytes = Vec::with_capacity(len + 2 * ROW as usize);
        bytes.extend_from_slice(HEADER.get(offset as usize..).unwrap_or_default());
        let first = offset.saturating_sub(header) / ROW;
        for n in first..self.rows {
            if header + n * ROW >= end {
                break;
            }
            bytes.extend_from_slice(self.row(n).as_bytes());
        }
        let skipped = if offset < header {
            0
        } else {
            ((offset - header) % ROW) as usize
        };
        bytes.drain(..skipped);
        bytes.truncate((end - offset.min(end)) as usize);
        Ok(bytes)
    }
}

/// Counts what is written and keeps nothing.
#[derive(Default)]
struct Nowhere;

struct Counter;

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Nowhere {
    type Sink = Counter;

    fn create(&mut self, _: &str) -> io::Result<Counter> {
        Ok(Counter)
    }

    fn finish(&mut self, _: Counter) -> io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

/// The most memory in bytes that was held beyond what was held before.
fn peak(rows: u64, days: u64) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let source = Arc::new(Endless { rows, days });
    let object = SourceObject {
        bucket: "data".into(),
        key: "raw/r.csv".into(),
        etag: "e".into(),
    };
    let outcome = ingest(source, &object, &Settings::default(), &mut Nowhere).unwrap();
    let Outcome::Interactions(ready) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((ready.rows, ready.skipped), (rows, 0));
    PEAK.load(Ordering::Relaxed) - before
}

#[test]
fn memory_is_flat_in_the_size_of_the_file() {
    const MB: usize = 1 << 20;
    for days in [1, 60, 9_000] {
        let (small, large) = (peak(700_000, days), peak(2_100_000, days));
        eprintln!(
            "{days} days: {} MB for 22 MB, {} MB for 67 MB",
            small / MB,
            large / MB
        );
        assert!(
            large < small + 24 * MB,
            "over {days} days {small} bytes became {large}"
        );
        assert!(large < 160 * MB, "over {days} days {large} bytes were held");
    }
}
