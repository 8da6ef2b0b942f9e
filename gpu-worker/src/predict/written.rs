//! The Parquet file of predictions, on its way to the store.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::values::Column;

/// A file that is being written.
pub struct Written {
    writer: SerializedFileWriter<File>,
}

impl Written {
    /// A file of these columns, without rows yet; on this machine, so that it need not fit into memory.
    pub fn begin(fields: &[TypePtr]) -> Result<Self, String> {
        let file = tempfile::tempfile().map_err(|error| format!("cannot be written anew: {error}"))?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
        let schema = Type::group_type_builder("predictions").with_fields(fields.to_vec());
        let schema = schema.build().map_err(unwritten)?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build()));
        Ok(Self {
            writer: writer.map_err(unwritten)?,
        })
    }

    /// Adds rows, which become a row group.
    pub fn group<'a>(&mut self, columns: impl Iterator<Item = &'a Column>) -> Result<(), String> {
        let mut group = self.writer.next_row_group().map_err(unwritten)?;
        for column in columns {
            let Some(mut to) = group.next_column().map_err(unwritten)? else {
                return Err("has more columns than its schema".to_owned());
            };
            column.write(to.untyped())?;
            to.close().map_err(unwritten)?;
        }
        group.close().map(drop).map_err(unwritten)
    }

    /// The whole file.
    pub fn finish(self) -> Result<File, String> {
        self.writer.into_inner().map_err(unwritten)
    }
}

fn unwritten(error: ParquetError) -> String {
    format!("cannot be written anew: {error}")
}
