//! CSV, without an allocation per row.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::IngestError;
use super::decode::Values;
use super::intake::Intake;
use super::mapping::Mapping;
use super::values::Value;
use crate::table::{Source, Stage, Stream};

/// Bytes of one read.
const BUFFER: usize = 1 << 20;
/// Bytes of one row: a quote that is never closed would swallow the file.
const ROW: u64 = 8 << 20;
/// Rows between two looks at the clock of progress.
const ROWS: u64 = 1024;

/// The names of the columns.
pub(super) fn header<S: Source>(source: &Arc<S>, delimiter: u8) -> Result<Vec<String>, IngestError> {
    let (mut reader, _) = open(source, delimiter);
    let mut record = ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(failed)?;
    Ok(record
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim().to_owned())
        .collect())
}

/// Reads every row after the header.
pub(super) fn read<S: Source, T: Stage>(
    source: &Arc<S>,
    delimiter: u8,
    intake: &mut Intake<'_, T>,
) -> Result<(), IngestError> {
    let mapping = intake.mapping().clone();
    let (mut reader, budget) = open(source, delimiter);
    let mut record = ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(failed)?;
    let mut rows = 0_u64;
    loop {
        budget.set(ROW);
        if !reader.read_byte_record(&mut record).map_err(failed)? {
            return Ok(());
        }
        row(&record, &mapping, intake)?;
        rows += 1;
        if rows.is_multiple_of(ROWS) {
            intake.progress(reader.position().byte());
        }
    }
}

fn row<T: Stage>(
    record: &ByteRecord,
    mapping: &Mapping,
    intake: &mut Intake<'_, T>,
) -> Result<(), IngestError> {
    let line = record.position().map_or(0, |position| position.line());
    if record.len() != mapping.len() {
        let reason = format!("found {} fields, wanted are {}", record.len(), mapping.len());
        return intake.malformed(line, &reason, &raw(record));
    }
    intake.row(line, &values(record, mapping), || raw(record))
}

/// The values of a record, by field.
pub(super) fn values<'a>(record: &'a ByteRecord, mapping: &Mapping) -> Values<'a> {
    let mut values = Values::default();
    for (text, field) in record.iter().zip(mapping) {
        if let Some(field) = field {
            values[*field as usize] = Value::Text(text.into());
        }
    }
    values
}

fn raw(record: &ByteRecord) -> String {
    let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    fields.join(",")
}

/// A reader of a text that may begin anywhere, for samples.
pub(super) fn reader<R: Read>(bytes: R, delimiter: u8) -> Reader<R> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .buffer_capacity(BUFFER)
        .from_reader(bytes)
}

fn open<S: Source>(source: &Arc<S>, delimiter: u8) -> (Reader<Budgeted<Stream<S>>>, Rc<Cell<u64>>) {
    let budget = Rc::new(Cell::new(ROW));
    let bytes = Budgeted {
        inner: Stream::new(source.clone(), 0),
        budget: budget.clone(),
    };
    (reader(bytes, delimiter), budget)
}

fn failed(error: csv::Error) -> IngestError {
    let line = error.position().map(|position| position.line());
    match (error.into_kind(), line) {
        (csv::ErrorKind::Io(error), _) if error.kind() == io::ErrorKind::InvalidData => {
            IngestError::Rejected(error.to_string())
        }
        (csv::ErrorKind::Io(error), _) => IngestError::Io(error),
        (other, line) => IngestError::Rejected(format!("line {}: {other:?}", line.unwrap_or(0))),
    }
}

/// Fails when more bytes are read than one row may have.
struct Budgeted<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.get() == 0 {
            let reason = format!("a row is longer than {ROW} bytes: is a quote not closed?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let count = self.inner.read(buffer)?;
        self.budget.set(self.budget.get().saturating_sub(count as u64));
        Ok(count)
    }
}
