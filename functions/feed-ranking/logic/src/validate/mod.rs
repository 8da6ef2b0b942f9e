//! Validate: a dataset in `staging/` is held against a suite of expectations.
//!
//! Two passes. The first shows every row to every expectation and writes the rows that are not as expected to
//! the quarantine, each with its reasons. If the dataset is accepted, the second copies the other rows to
//! `validated/`; between them a bit per row is all that is remembered.

mod cell;
mod check;
mod report;
mod suite;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use crate::messages::{DataFile, DataReady, DataRejected, DataValidated};
use crate::table::{
    COLUMNS, Interaction, Interactions, InteractionsReader, InteractionsWriter, ROWS_PER_BATCH, Source,
    Stage, TableError,
};

pub use cell::Cell;
pub use check::{Check, Finding, compile};
pub use report::{ExpectationResult, Report, Statistics};
pub use suite::{Expectation, Kwargs, Partition, Severity, Suite};

/// Rows that the quarantine shows; all are counted.
const QUARANTINED: u64 = 100_000;
/// Rows of a row group.
const GROUP: usize = 131_072;

/// Why a dataset was not validated.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The suite cannot be put to work.
    #[error("{0}")]
    Suite(String),
    /// A table cannot be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl From<std::io::Error> for ValidateError {
    fn from(error: std::io::Error) -> Self {
        Self::Table(error.into())
    }
}

/// What a dataset came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is accepted.
    Validated(DataValidated),
    /// It is not.
    Rejected(DataRejected),
}

/// Validates a dataset. `open` opens an object of the bucket `data`.
pub fn validate<S: Source + 'static, T: Stage>(
    ready: &DataReady,
    suite: &Suite,
    mut open: impl FnMut(&str) -> Result<Arc<S>, TableError>,
    stage: &mut T,
) -> Result<Verdict, ValidateError> {
    let mut trial = Trial::new(ready, suite)?;
    for file in &ready.files {
        trial.file(file, open(&file.key)?, stage)?;
    }
    trial.close_quarantine(stage)?;
    let report = trial.report(ready, suite);
    let dataset = ready.dataset.clone();
    let key = format!("reports/{dataset}.json");
    write_report(&key, &report, stage)?;
    if !report.success {
        let reasons = trial.reasons(suite);
        return Ok(Verdict::Rejected(DataRejected {
            dataset,
            reasons,
            report: key,
        }));
    }
    let files = copy(ready, &trial.bad, open, stage)?;
    let (rows, quarantined) = (trial.rows - trial.quarantined, trial.quarantined);
    Ok(Verdict::Validated(DataValidated {
        dataset,
        rows,
        quarantined,
        files,
        report: key,
    }))
}

fn write_report<T: Stage>(key: &str, report: &Report, stage: &mut T) -> Result<(), ValidateError> {
    let text = serde_json::to_vec_pretty(report).map_err(std::io::Error::other)?;
    let mut sink = stage.create(key)?;
    sink.write_all(&text)?;
    Ok(stage.finish(sink)?)
}

/// The cells of a row, in the order of [`COLUMNS`].
fn cells<'a>(row: &Interaction<'a>) -> [Cell<'a>; COLUMNS.len()] {
    let flag = |value: Option<i32>| value.map_or(Cell::Null, |value| Cell::Int(value.into()));
    let number = |value: Option<f64>| value.map_or(Cell::Null, Cell::Float);
    let text = |value: Option<&'a str>| value.map_or(Cell::Null, Cell::Text);
    [
        Cell::Int(row.user_id),
        Cell::Int(row.item_id),
        Cell::Int(row.timestamp),
        flag(row.click),
        flag(row.like),
        flag(row.share),
        number(row.dwell_seconds),
        number(row.rating),
        text(row.device),
        text(row.category),
    ]
}

/// The first pass.
struct Trial<W: Write + Send> {
    checks: Vec<(Box<dyn Check>, Severity)>,
    total: u64,
    rows: u64,
    quarantined: u64,
    bad: Bits,
    key: String,
    sink: Option<W>,
    part: String,
}

impl<W: Write + Send> Trial<W> {
    fn new(ready: &DataReady, suite: &Suite) -> Result<Self, ValidateError> {
        let compiled = suite.expectations.iter().map(|expectation| {
            compile(expectation, &COLUMNS)
                .map(|check| (check, expectation.severity))
                .map_err(|reason| ValidateError::Suite(format!("the suite `{}`: {reason}", suite.name)))
        });
        Ok(Self {
            checks: compiled.collect::<Result<_, _>>()?,
            total: ready.rows,
            rows: 0,
            quarantined: 0,
            bad: Bits::default(),
            key: format!("quarantine/{}/rows.jsonl", ready.dataset),
            sink: None,
            part: String::new(),
        })
    }

    fn file<S: Source + 'static, T: Stage<Sink = W>>(
        &mut self,
        file: &DataFile,
        source: Arc<S>,
        stage: &mut T,
    ) -> Result<(), ValidateError> {
        self.begin_part(&file.key);
        let mut reader = InteractionsReader::open(source)?;
        let mut at = 0;
        while let Some(batch) = reader.next_batch(ROWS_PER_BATCH)? {
            for row in batch.rows() {
                self.row(&file.key, at, &row, stage)?;
                at += 1;
            }
            stage.progress(self.rows, self.total.max(self.rows), "rows");
        }
        Ok(())
    }

    /// Files of one date follow each other; rows of different dates differ in their times.
    fn begin_part(&mut self, key: &str) {
        let part = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        if part != self.part {
            self.part = part.to_owned();
            self.checks.iter_mut().for_each(|(check, _)| check.part());
        }
    }

    fn row<T: Stage<Sink = W>>(
        &mut self,
        file: &str,
        at: u64,
        row: &Interaction<'_>,
        stage: &mut T,
    ) -> Result<(), ValidateError> {
        let cells = cells(row);
        let mut reasons = Vec::new();
        for (check, severity) in &mut self.checks {
            if check.row(&cells) && *severity == Severity::Critical {
                reasons.push(check.reason(&cells));
            }
        }
        self.bad.push(!reasons.is_empty());
        self.rows += 1;
        if reasons.is_empty() {
            return Ok(());
        }
        self.quarantined += 1;
        if self.quarantined <= QUARANTINED {
            self.quarantine(file, at, &cells, &reasons, stage)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn quarantine<T: Stage<Sink = W>>(
        &mut self,
        file: &str,
        at: u64,
        cells: &[Cell<'_>],
        reasons: &[String],
        stage: &mut T,
    ) -> Result<(), ValidateError> {
        let named = COLUMNS
            .iter()
            .zip(cells)
            .map(|(name, cell)| ((*name).to_owned(), cell.to_json()));
        let data: serde_json::Map<_, _> = named.filter(|(_, value)| !value.is_null()).collect();
        let entry = json!({ "file": file, "row": at, "reasons": reasons, "data": data });
        if self.sink.is_none() {
            self.sink = Some(stage.create(&self.key)?);
        }
        match &mut self.sink {
            Some(sink) => Ok(writeln!(sink, "{entry}")?),
            None => Ok(()),
        }
    }

    fn close_quarantine<T: Stage<Sink = W>>(&mut self, stage: &mut T) -> Result<(), ValidateError> {
        match self.sink.take() {
            Some(sink) => Ok(stage.finish(sink)?),
            None => Ok(()),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        self.checks.iter().map(|(check, _)| check.finish()).collect()
    }

    fn report(&self, ready: &DataReady, suite: &Suite) -> Report {
        let meta = json!({
            "dataset": ready.dataset,
            "source": ready.source,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "skipped_by_ingest": ready.skipped,
        });
        Report::new(suite, &self.findings(), meta)
    }

    /// One reason for each critical expectation that was not met.
    fn reasons(&self, suite: &Suite) -> Vec<String> {
        let findings = self.findings();
        let unmet = suite
            .expectations
            .iter()
            .zip(&findings)
            .filter(|(expectation, finding)| expectation.severity == Severity::Critical && !finding.success);
        unmet
            .map(|(expectation, finding)| format!("{}: {}", expectation.shown(), finding.words))
            .collect()
    }
}

/// The second pass: the rows that are as expected, file by file.
fn copy<S: Source + 'static, T: Stage>(
    ready: &DataReady,
    bad: &Bits,
    mut open: impl FnMut(&str) -> Result<Arc<S>, TableError>,
    stage: &mut T,
) -> Result<Vec<DataFile>, ValidateError> {
    let (from, to) = (
        format!("staging/{}/", ready.dataset),
        format!("validated/{}/", ready.dataset),
    );
    let (mut files, mut at) = (Vec::new(), 0);
    for file in &ready.files {
        let mut reader = InteractionsReader::open(open(&file.key)?)?;
        let key = format!("{to}{}", file.key.strip_prefix(&from).unwrap_or(&file.key));
        let mut writer = InteractionsWriter::new(stage.create(&key)?)?;
        let mut kept = Interactions::default();
        while let Some(batch) = reader.next_batch(ROWS_PER_BATCH)? {
            for row in batch.rows() {
                if !bad.get(at) {
                    kept.push(&row);
                }
                at += 1;
            }
            if kept.len() >= GROUP {
                writer.write(&std::mem::take(&mut kept))?;
            }
        }
        writer.write(&kept)?;
        let rows = writer.rows();
        if rows > 0 {
            stage.finish(writer.finish()?)?;
            files.push(DataFile { key, rows });
        }
    }
    Ok(files)
}

/// A bit per row.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(bit) << (self.len % 64);
        }
        self.len += 1;
    }

    fn get(&self, at: usize) -> bool {
        self.words
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}
