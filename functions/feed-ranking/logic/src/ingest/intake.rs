//! Rows on their way from a reader to the table, the catalogue or the quarantine.

use std::io::Write;

use super::catalog::Catalog;
use super::decode::{self, Values};
use super::mapping::{Mapping, Table};
use super::partition::{PartitionedWriter, Span};
use super::quarantine::Quarantine;
use super::{ClickRule, IngestError, MALFORMED_SHARE, Outcome, Settings, dataset_id};
use crate::messages::{CatalogReady, DataReady, SourceObject};
use crate::table::Stage;

/// Rows after which a file that is mostly malformed is given up.
const TRIAL: u64 = 10_000;
/// Bytes between two words of progress, at least.
const STEP: u64 = 1 << 20;

enum Target<T: Stage> {
    Interactions(PartitionedWriter<T>),
    Items(Box<Catalog<T::Sink>>),
}

/// Takes rows in.
pub(super) struct Intake<'a, T: Stage> {
    object: &'a SourceObject,
    dataset: String,
    mapping: Mapping,
    rule: Option<ClickRule>,
    target: Target<T>,
    quarantine: Quarantine,
    accepted: u64,
    size: u64,
    told: u64,
    stage: &'a mut T,
}

impl<'a, T: Stage> Intake<'a, T> {
    pub(super) fn new(
        object: &'a SourceObject,
        table: Table,
        settings: &Settings,
        span: Option<Span>,
        size: u64,
        stage: &'a mut T,
    ) -> Result<Self, IngestError> {
        let dataset = dataset_id(object);
        let mapping = table.mapping().clone();
        let target = match table {
            Table::Interactions(_) => {
                let prefix = format!("staging/{dataset}/");
                Target::Interactions(PartitionedWriter::new(prefix, settings.partitioning, span))
            }
            Table::Items(_) => Target::Items(Box::new(Catalog::new(stage)?)),
        };
        let quarantine = Quarantine::default();
        let rule = settings.click_from;
        Ok(Self {
            object,
            dataset,
            mapping,
            rule,
            target,
            quarantine,
            accepted: 0,
            size,
            told: 0,
            stage,
        })
    }

    /// Which column is which field.
    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Takes a row, or puts it into quarantine; `raw` is asked for only then.
    pub(super) fn row(
        &mut self,
        line: u64,
        values: &Values<'_>,
        raw: impl FnOnce() -> String,
    ) -> Result<(), IngestError> {
        let read = match &mut self.target {
            Target::Interactions(writer) => match decode::interaction(values, self.rule) {
                Ok(row) => writer.push(&row, self.stage).map(|()| None)?,
                Err(malformed) => Some(malformed),
            },
            Target::Items(catalog) => match decode::item(values) {
                Ok((id, title, categories)) => catalog.push(id, title, categories).map(|()| None)?,
                Err(malformed) => Some(malformed),
            },
        };
        match read {
            None => {
                self.accepted += 1;
                Ok(())
            }
            Some(malformed) => self.malformed(line, &malformed.to_string(), &raw()),
        }
    }

    /// Puts a row into quarantine; gives a file up that is mostly malformed.
    #[cold]
    pub(super) fn malformed(&mut self, line: u64, reason: &str, raw: &str) -> Result<(), IngestError> {
        self.quarantine.add(line, reason, raw);
        let seen = self.accepted + self.quarantine.count();
        if seen >= TRIAL && self.quarantine.count() * 2 > seen {
            Err(self.too_many(seen))
        } else {
            Ok(())
        }
    }

    /// Tells how far the reader has come.
    pub(super) fn progress(&mut self, done: u64) {
        if done >= self.told + STEP.max(self.size / 100) {
            self.told = done;
            self.stage.progress(done.min(self.size), self.size, "bytes");
        }
    }

    /// Completes what was made of the file.
    pub(super) fn finish(mut self) -> Result<Outcome, IngestError> {
        let skipped = self.quarantine.count();
        let seen = self.accepted + skipped;
        if seen == 0 {
            return Err(IngestError::Rejected("the file has no rows".into()));
        }
        if skipped as f64 > MALFORMED_SHARE * seen as f64 {
            return Err(self.too_many(seen));
        }
        self.write_quarantine()?;
        self.stage.progress(self.size, self.size, "bytes");
        let (rows, source) = (self.accepted, self.object.clone());
        Ok(match self.target {
            Target::Interactions(writer) => {
                let files = writer.finish(self.stage)?;
                Outcome::Interactions(DataReady {
                    dataset: self.dataset,
                    rows,
                    skipped,
                    files,
                    source,
                })
            }
            Target::Items(catalog) => {
                let key = catalog.finish(self.stage)?;
                Outcome::Catalog(CatalogReady {
                    key,
                    rows,
                    skipped,
                    source,
                })
            }
        })
    }

    fn write_quarantine(&mut self) -> Result<(), IngestError> {
        if self.quarantine.count() == 0 {
            return Ok(());
        }
        let mut sink = self
            .stage
            .create(&format!("quarantine/{}/ingest.jsonl", self.dataset))?;
        sink.write_all(self.quarantine.lines())?;
        Ok(self.stage.finish(sink)?)
    }

    fn too_many(&self, seen: u64) -> IngestError {
        let (count, first) = (self.quarantine.count(), self.quarantine.first());
        let share = MALFORMED_SHARE * 100.0;
        IngestError::Rejected(format!(
            "{count} of the first {seen} rows are malformed, allowed are {share:.0} %; the first is {first}"
        ))
    }
}
