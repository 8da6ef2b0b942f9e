//! Columns of Parquet files, a row group at a time: flat, and without nulls.

use std::ops::Range;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::metadata::ParquetMetaData;

/// Rows decoded at a time.
const CHUNK: usize = 8192;
/// Values that room is made for before any was read: a file may say anything of its length.
const MOST_RESERVED: usize = 1 << 20;

/// Which rows of a file each of its row groups has.
pub fn groups(metadata: &ParquetMetaData) -> Vec<Range<usize>> {
    let mut end = 0usize;
    let groups = metadata.row_groups().iter().map(|group| {
        let start = end;
        end = start.saturating_add(usize::try_from(group.num_rows()).unwrap_or(0));
        start..end
    });
    groups.collect()
}

/// The ids of a column of a row group.
pub fn read_ids(column: ColumnReader, rows: usize) -> Result<Vec<i64>, String> {
    match column {
        ColumnReader::Int64ColumnReader(reader) => read_all(reader, rows),
        ColumnReader::Int32ColumnReader(reader) => {
            Ok(read_all(reader, rows)?.into_iter().map(i64::from).collect())
        }
        _ => Err("is not of type int64 or int32, as ids are".to_owned()),
    }
}

/// The numbers of a column of a row group.
pub fn read_floats(column: ColumnReader, rows: usize) -> Result<Vec<f64>, String> {
    Ok(match column {
        ColumnReader::FloatColumnReader(reader) => convert(read_all(reader, rows)?, f64::from),
        ColumnReader::DoubleColumnReader(reader) => read_all(reader, rows)?,
        ColumnReader::Int32ColumnReader(reader) => convert(read_all(reader, rows)?, f64::from),
        ColumnReader::Int64ColumnReader(reader) => convert(read_all(reader, rows)?, |v| v as f64),
        ColumnReader::BoolColumnReader(reader) => {
            convert(read_all(reader, rows)?, |v| f64::from(u8::from(v)))
        }
        _ => return Err("is not numeric; allowed are float, double, int32, int64 and boolean".to_owned()),
    })
}

/// Puts the numbers of a column where they belong in rows of `width`.
pub fn scatter(numbers: Vec<f64>, rows: &mut [f32], column: usize, width: usize) {
    let targets = rows.iter_mut().skip(column).step_by(width);
    targets
        .zip(numbers)
        .for_each(|(target, number)| *target = number as f32);
}

fn convert<T>(values: Vec<T>, to: impl Fn(T) -> f64) -> Vec<f64> {
    values.into_iter().map(to).collect()
}

/// All values of a flat column, which must not have nulls.
fn read_all<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize) -> Result<Vec<T::T>, String> {
    let mut values = Vec::with_capacity(rows.min(MOST_RESERVED));
    let mut levels = Vec::new();
    let mut records = 0;
    while records < rows {
        levels.clear();
        let (read, found, _) = reader
            .read_records(CHUNK.min(rows - records), Some(&mut levels), None, &mut values)
            .map_err(|e| e.to_string())?;
        if read == 0 {
            return Err(format!("ends after {records} of {rows} rows"));
        }
        if found != read {
            let row = levels.iter().position(|&level| level == 0).unwrap_or(0) + records;
            return Err(format!("has a null in row {row} of its row group"));
        }
        records += read;
    }
    Ok(values)
}
