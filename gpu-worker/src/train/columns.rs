//! Columns of Parquet files, a row group at a time: flat, and without nulls.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;

/// Rows decoded at a time.
const CHUNK: usize = 8192;

/// Appends the ids of a column of a row group.
pub fn read_ids(column: ColumnReader, rows: usize, ids: &mut Vec<i64>) -> Result<(), String> {
    match column {
        ColumnReader::Int64ColumnReader(reader) => ids.extend(read_all(reader, rows)?),
        ColumnReader::Int32ColumnReader(reader) => {
            ids.extend(read_all(reader, rows)?.into_iter().map(i64::from))
        }
        _ => return Err("an id column is not of type int64 or int32".to_owned()),
    }
    Ok(())
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

fn convert<T>(values: Vec<T>, to: impl Fn(T) -> f64) -> Vec<f64> {
    values.into_iter().map(to).collect()
}

/// All values of a flat column, which must not have nulls.
fn read_all<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize) -> Result<Vec<T::T>, String> {
    let mut values = Vec::with_capacity(rows);
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
