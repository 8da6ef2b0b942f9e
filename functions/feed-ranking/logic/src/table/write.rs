//! Interactions to Parquet.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use super::{Column, Interactions, TableError, TextColumn};

const SCHEMA: &str = "message interactions {
    REQUIRED INT64 user_id;
    REQUIRED INT64 item_id;
    REQUIRED INT64 timestamp;
    OPTIONAL INT32 click;
    OPTIONAL INT32 like;
    OPTIONAL INT32 share;
    OPTIONAL DOUBLE dwell_seconds;
    OPTIONAL DOUBLE rating;
    OPTIONAL BYTE_ARRAY device (UTF8);
    OPTIONAL BYTE_ARRAY category (UTF8);
}";

/// Writer properties: snappy, and a dictionary only for the columns `repeating`.
pub fn properties(repeating: &[&str]) -> WriterPropertiesPtr {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_column_encoding(ColumnPath::from("timestamp"), Encoding::DELTA_BINARY_PACKED);
    for column in repeating {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(*column), true);
    }
    Arc::new(builder.build())
}

/// Parses a schema that is written in the source.
pub(super) fn schema(text: &str) -> Result<TypePtr, TableError> {
    Ok(Arc::new(parse_message_type(text)?))
}

/// Writes batches, each as a row group.
pub struct InteractionsWriter<W: Write + Send> {
    inner: SerializedFileWriter<W>,
    rows: u64,
}

impl<W: Write + Send> InteractionsWriter<W> {
    /// Begins a file.
    pub fn new(sink: W) -> Result<Self, TableError> {
        let properties = properties(&["click", "like", "share", "rating", "device", "category"]);
        Ok(Self {
            inner: SerializedFileWriter::new(sink, schema(SCHEMA)?, properties)?,
            rows: 0,
        })
    }

    /// Appends the batch as a row group; an empty batch is nothing.
    pub fn write(&mut self, batch: &Interactions) -> Result<(), TableError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut group = self.inner.next_row_group()?;
        column::<Int64Type>(&mut group, &batch.user_id, None)?;
        column::<Int64Type>(&mut group, &batch.item_id, None)?;
        column::<Int64Type>(&mut group, &batch.timestamp, None)?;
        nullable::<Int32Type>(&mut group, &batch.click)?;
        nullable::<Int32Type>(&mut group, &batch.like)?;
        nullable::<Int32Type>(&mut group, &batch.share)?;
        nullable::<DoubleType>(&mut group, &batch.dwell_seconds)?;
        nullable::<DoubleType>(&mut group, &batch.rating)?;
        text(&mut group, &batch.device)?;
        text(&mut group, &batch.category)?;
        group.close()?;
        self.rows += batch.len() as u64;
        Ok(())
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes the footer and gives the sink back.
    pub fn finish(self) -> Result<W, TableError> {
        Ok(self.inner.into_inner()?)
    }
}

/// Appends the next column of a row group.
pub(super) fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), TableError> {
    let missing = || TableError::Schema("the table has more columns than its schema".into());
    let mut writer = group.next_column()?.ok_or_else(missing)?;
    writer.typed::<T>().write_batch(values, levels, None)?;
    Ok(writer.close()?)
}

fn nullable<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    from: &Column<T::T>,
) -> Result<(), TableError>
where
    T::T: Copy + Default,
{
    let (values, levels) = from.parts();
    column::<T>(group, &values, Some(levels))
}

/// Appends the next column of a row group, of text.
pub(super) fn text(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    from: &TextColumn,
) -> Result<(), TableError> {
    let words: Vec<ByteArray> = from
        .words()
        .iter()
        .map(|word| ByteArray::from(word.as_bytes().to_vec()))
        .collect();
    let values: Vec<ByteArray> = from
        .codes()
        .iter()
        .filter_map(|code| words.get(*code as usize).cloned())
        .collect();
    let levels: Vec<i16> = from
        .codes()
        .iter()
        .map(|code| words.get(*code as usize).is_some().into())
        .collect();
    column::<ByteArrayType>(group, &values, Some(&levels))
}
