//! The item catalogue on its way to `catalog/items.parquet`.

use super::IngestError;
use crate::table::{ItemsWriter, Stage};

const KEY: &str = "catalog/items.parquet";

/// A catalogue being written.
pub(super) struct Catalog<W: std::io::Write + Send> {
    writer: ItemsWriter<W>,
}

impl<W: std::io::Write + Send> Catalog<W> {
    pub(super) fn new(stage: &mut impl Stage<Sink = W>) -> Result<Self, IngestError> {
        Ok(Self {
            writer: ItemsWriter::new(stage.create(KEY)?)?,
        })
    }

    /// Adds an item.
    pub(super) fn push(
        &mut self,
        id: i64,
        title: Option<&str>,
        categories: Option<&str>,
    ) -> Result<(), IngestError> {
        Ok(self.writer.push(id, title, categories)?)
    }

    /// Completes the object and returns its key.
    pub(super) fn finish(self, stage: &mut impl Stage<Sink = W>) -> Result<String, IngestError> {
        let (sink, _) = self.writer.finish()?;
        stage.finish(sink)?;
        Ok(KEY.to_owned())
    }
}
