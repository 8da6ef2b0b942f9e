//! A look at a file before it is read: the span of its times, from windows spread over it.

use std::sync::Arc;

use csv::ByteRecord;

use super::decode::Values;
use super::format::Format;
use super::jsonl::Fields;
use super::mapping::{Field, Mapping, Table};
use super::partition::Span;
use super::{IngestError, Partitioning, Settings, csv as text, parquet};
use crate::table::Source;

/// Windows that are read.
const WINDOWS: u64 = 16;
/// Bytes of a window.
const WINDOW: u64 = 64 << 10;

/// The first and last time that a sample of the rows has; needed only where the partitioning is `auto`.
pub(super) fn span<S: Source + 'static>(
    source: &Arc<S>,
    format: Format,
    columns: &[String],
    settings: &Settings,
) -> Result<Option<Span>, IngestError> {
    if settings.partitioning != Partitioning::Auto {
        return Ok(None);
    }
    let table = Table::of(columns, settings)?;
    let mapping = table.mapping();
    if format == Format::Parquet {
        return parquet::span(source, mapping);
    }
    let mut span = None;
    for start in starts(source.size()) {
        let window = source.read_at(start, WINDOW as usize)?;
        let lines = whole_lines(&window, start == 0, start + WINDOW >= source.size());
        let mut add = |values: Values<'_>| {
            if let Some(time) = values[Field::Timestamp as usize].time() {
                Span::extend(&mut span, time);
            }
        };
        match format {
            Format::Csv { delimiter } => csv(lines, delimiter, mapping, &mut add),
            Format::JsonLines => json_lines(lines, columns, mapping, &mut add),
            Format::Parquet => {}
        }
    }
    Ok(span)
}

/// Where the windows begin: the whole of a short file, else evenly from its first byte to its last.
fn starts(size: u64) -> Vec<u64> {
    if size <= WINDOWS * WINDOW {
        return (0..size.div_ceil(WINDOW)).map(|window| window * WINDOW).collect();
    }
    let step = (size - WINDOW) / (WINDOWS - 1);
    (0..WINDOWS).map(|window| window * step).collect()
}

/// The lines that begin and end within a window.
fn whole_lines(window: &[u8], first: bool, last: bool) -> &[u8] {
    let begin = if first {
        Some(0)
    } else {
        window.iter().position(|byte| *byte == b'\n').map(|at| at + 1)
    };
    let end = if last {
        Some(window.len())
    } else {
        window.iter().rposition(|byte| *byte == b'\n')
    };
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end => &window[begin..end],
        _ => &[],
    }
}

fn csv(lines: &[u8], delimiter: u8, mapping: &Mapping, add: &mut impl FnMut(Values<'_>)) {
    let mut reader = text::reader(lines, delimiter);
    let mut record = ByteRecord::new();
    while let Ok(true) = reader.read_byte_record(&mut record) {
        add(text::values(&record, mapping));
    }
}

fn json_lines(lines: &[u8], columns: &[String], mapping: &Mapping, add: &mut impl FnMut(Values<'_>)) {
    let fields = Fields::new(columns, mapping);
    let parsed = lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| fields.values(line).ok());
    parsed.for_each(add);
}
