//! Interactions from Parquet, in batches, whatever the size of the file.

use std::sync::Arc;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{COLUMNS, Chunks, Column, Interactions, Source, TableError, TextColumn};

/// Rows of a batch that bounds memory and still amortises the work per batch.
pub const ROWS_PER_BATCH: usize = 16_384;

/// Reads the files that [`super::InteractionsWriter`] writes.
pub struct InteractionsReader<S: Source + ?Sized + 'static> {
    file: SerializedFileReader<Chunks<S>>,
    group: usize,
    columns: Option<Columns>,
}

impl<S: Source + ?Sized + 'static> InteractionsReader<S> {
    /// Opens a file and checks that its columns are those of the table.
    pub fn open(source: Arc<S>) -> Result<Self, TableError> {
        let file = SerializedFileReader::new(Chunks(source))?;
        let found: Vec<_> = file
            .metadata()
            .file_metadata()
            .schema_descr()
            .columns()
            .iter()
            .map(|c| c.name().to_owned())
            .collect();
        if found != COLUMNS {
            let (found, wanted) = (found.join("`, `"), COLUMNS.join("`, `"));
            return Err(TableError::Schema(format!(
                "found the columns `{found}`, wanted are `{wanted}`"
            )));
        }
        Ok(Self {
            file,
            group: 0,
            columns: None,
        })
    }

    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.file
            .metadata()
            .file_metadata()
            .num_rows()
            .try_into()
            .unwrap_or(0)
    }

    /// The next rows, at most `limit`; none at the end.
    pub fn next_batch(&mut self, limit: usize) -> Result<Option<Interactions>, TableError> {
        loop {
            if let Some(columns) = &mut self.columns {
                let batch = columns.read(limit.max(1))?;
                if !batch.is_empty() {
                    return Ok(Some(batch));
                }
                self.columns = None;
            }
            if self.group >= self.file.num_row_groups() {
                return Ok(None);
            }
            self.columns = Some(Columns::open(&self.file, self.group)?);
            self.group += 1;
        }
    }
}

/// The column readers of one row group.
struct Columns {
    ids: [ColumnReaderImpl<Int64Type>; 3],
    flags: [ColumnReaderImpl<Int32Type>; 3],
    numbers: [ColumnReaderImpl<DoubleType>; 2],
    texts: [ColumnReaderImpl<ByteArrayType>; 2],
}

impl Columns {
    fn open<S: Source + ?Sized + 'static>(
        file: &SerializedFileReader<Chunks<S>>,
        group: usize,
    ) -> Result<Self, TableError> {
        let group = file.get_row_group(group)?;
        let column = |index| group.get_column_reader(index);
        Ok(Self {
            ids: [typed(column(0)?)?, typed(column(1)?)?, typed(column(2)?)?],
            flags: [typed(column(3)?)?, typed(column(4)?)?, typed(column(5)?)?],
            numbers: [typed(column(6)?)?, typed(column(7)?)?],
            texts: [typed(column(8)?)?, typed(column(9)?)?],
        })
    }

    fn read(&mut self, limit: usize) -> Result<Interactions, TableError> {
        let [user_id, item_id, timestamp] = &mut self.ids;
        let [click, like, share] = &mut self.flags;
        let [dwell_seconds, rating] = &mut self.numbers;
        let [device, category] = &mut self.texts;
        let batch = Interactions {
            user_id: required(user_id, limit)?,
            item_id: required(item_id, limit)?,
            timestamp: required(timestamp, limit)?,
            click: nullable(click, limit)?,
            like: nullable(like, limit)?,
            share: nullable(share, limit)?,
            dwell_seconds: nullable(dwell_seconds, limit)?,
            rating: nullable(rating, limit)?,
            device: text(device, limit)?,
            category: text(category, limit)?,
        };
        let rows = batch.len();
        let same = [
            batch.item_id.len(),
            batch.timestamp.len(),
            batch.click.len(),
            batch.like.len(),
        ]
        .into_iter()
        .chain([batch.share.len(), batch.dwell_seconds.len(), batch.rating.len()])
        .chain([batch.device.len(), batch.category.len()])
        .all(|len| len == rows);
        if same {
            Ok(batch)
        } else {
            Err(TableError::Parquet("the columns differ in length".into()))
        }
    }
}

fn typed<T: DataType>(reader: ColumnReader) -> Result<ColumnReaderImpl<T>, TableError> {
    let found = match &reader {
        ColumnReader::Int32ColumnReader(_) => parquet::basic::Type::INT32,
        ColumnReader::Int64ColumnReader(_) => parquet::basic::Type::INT64,
        ColumnReader::DoubleColumnReader(_) => parquet::basic::Type::DOUBLE,
        ColumnReader::ByteArrayColumnReader(_) => parquet::basic::Type::BYTE_ARRAY,
        _ => {
            return Err(TableError::Schema(
                "found a column type that the table does not have".into(),
            ));
        }
    };
    let wanted = T::get_physical_type();
    if found != wanted {
        return Err(TableError::Schema(format!(
            "found a column of `{found}`, wanted is `{wanted}`"
        )));
    }
    Ok(get_typed_column_reader(reader))
}

fn required(reader: &mut ColumnReaderImpl<Int64Type>, limit: usize) -> Result<Vec<i64>, TableError> {
    let mut values = Vec::with_capacity(limit);
    reader.read_records(limit, None, None, &mut values)?;
    Ok(values)
}

fn nullable<T: DataType>(reader: &mut ColumnReaderImpl<T>, limit: usize) -> Result<Column<T::T>, TableError>
where
    T::T: Copy + Default,
{
    let (mut values, mut levels) = (Vec::with_capacity(limit), Vec::with_capacity(limit));
    reader.read_records(limit, Some(&mut levels), None, &mut values)?;
    let mut column = Column::default();
    column.extend(&values, &levels);
    Ok(column)
}

fn text(reader: &mut ColumnReaderImpl<ByteArrayType>, limit: usize) -> Result<TextColumn, TableError> {
    let (mut values, mut levels) = (Vec::with_capacity(limit), Vec::with_capacity(limit));
    reader.read_records(limit, Some(&mut levels), None, &mut values)?;
    let mut column = TextColumn::default();
    let mut values = values.iter();
    for level in &levels {
        let value = if *level == 1 { values.next() } else { None };
        let text = value.map(|bytes| bytes.as_utf8()).transpose()?;
        column.push(text);
    }
    Ok(column)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Interaction, InteractionsWriter};
    use super::*;

    fn rows(count: i64) -> Interactions {
        (0..count)
            .map(|n| Interaction {
                user_id: n % 7,
                item_id: n,
                timestamp: 1_700_000_000 + n,
                click: (n % 3 != 0).then_some((n % 2) as i32),
                dwell_seconds: (n % 5 == 0).then_some(n as f64 / 2.0),
                device: (n % 4 != 0).then_some(if n % 2 == 0 { "phone" } else { "tablet" }),
                ..Interaction::default()
            })
            .collect()
    }

    fn file(batches: &[Interactions]) -> Bytes {
        let mut writer = InteractionsWriter::new(Vec::new()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap().into()
    }

    #[test]
    fn what_is_written_is_read_back_in_batches_of_any_size() {
        let source = Arc::new(file(&[rows(1000), rows(17)]));
        let wanted: Vec<_> = [rows(1000), rows(17)]
            .iter()
            .map(|b| b.rows().map(|r| format!("{r:?}")).collect())
            .collect::<Vec<Vec<_>>>()
            .concat();
        for limit in [1, 13, 999, 5000] {
            let mut reader = InteractionsReader::open(source.clone()).unwrap();
            assert_eq!(reader.rows(), 1017);
            let mut found = Vec::new();
            while let Some(batch) = reader.next_batch(limit).unwrap() {
                assert!(batch.len() <= limit);
                found.extend(batch.rows().map(|row| format!("{row:?}")));
            }
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_file_cut_short_is_an_error_and_never_a_panic() {
        let whole = file(&[rows(100)]);
        for len in (0..whole.len()).step_by(7) {
            assert!(
                InteractionsReader::open(Arc::new(whole.slice(..len))).is_err(),
                "{len} bytes were accepted"
            );
        }
    }
}
