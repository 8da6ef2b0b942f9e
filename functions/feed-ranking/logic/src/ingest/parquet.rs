//! Parquet with any flat columns, read a page at a time.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::IngestError;
use super::decode::Values;
use super::intake::Intake;
use super::mapping::Field;
use super::pages::{Checked, check_chunk};
use super::partition::Span;
use super::values::Value;
use crate::table::{Chunks, Source, Stage, TableError};

/// Rows of a batch.
const BATCH: usize = 4096;

/// The names of the columns, those within others as `outer.inner`.
pub(super) fn columns<S: Source + 'static>(source: &Arc<S>) -> Result<Vec<String>, IngestError> {
    let file = open(source)?;
    let schema = file.metadata().file_metadata().schema_descr();
    Ok(schema
        .columns()
        .iter()
        .map(|column| column.path().string())
        .collect())
}

/// Reads every row.
pub(super) fn read<S: Source + 'static, T: Stage>(
    source: &Arc<S>,
    intake: &mut Intake<'_, T>,
) -> Result<(), IngestError> {
    let file = open(source)?;
    let rows = file.metadata().file_metadata().num_rows().max(1) as u64;
    let mut seen = 0;
    for group in 0..file.num_row_groups() {
        let mut columns = Columns::open(&file, group, intake.mapping())?;
        loop {
            let batch = columns.read()?;
            if batch.is_empty() {
                break;
            }
            for values in &batch {
                seen += 1;
                intake.row(seen, values, || raw(values))?;
            }
            intake.progress((source.size() as f64 * (seen as f64 / rows as f64)) as u64);
        }
    }
    Ok(())
}

/// The first and last time, from the statistics in the footer.
pub(super) fn span<S: Source + 'static>(
    source: &Arc<S>,
    mapping: &[Option<Field>],
) -> Result<Option<Span>, IngestError> {
    let file = open(source)?;
    let schema = file.metadata().file_metadata().schema_descr();
    let Some(index) = mapping.iter().position(|field| *field == Some(Field::Timestamp)) else {
        return Ok(None);
    };
    let unit = Unit::of(schema.columns().get(index).map(Arc::as_ref));
    let mut span = None;
    for group in file.metadata().row_groups() {
        let Some(statistics) = group.columns().get(index).and_then(|column| column.statistics()) else {
            continue;
        };
        for bytes in [statistics.min_bytes_opt(), statistics.max_bytes_opt()]
            .into_iter()
            .flatten()
        {
            let number = match statistics.physical_type() {
                Type::INT64 => bytes.try_into().map(i64::from_le_bytes).ok(),
                Type::INT32 => bytes
                    .try_into()
                    .map(|bytes| i32::from_le_bytes(bytes).into())
                    .ok(),
                _ => None,
            };
            if let Some(time) = number.and_then(|number| Value::Int(unit.seconds(number)).time()) {
                Span::extend(&mut span, time);
            }
        }
    }
    Ok(span)
}

fn open<S: Source + 'static>(source: &Arc<S>) -> Result<SerializedFileReader<Chunks<S>>, TableError> {
    Ok(SerializedFileReader::new(Chunks(source.clone()))?)
}

fn raw(values: &Values<'_>) -> String {
    let shown = Field::ALL
        .iter()
        .map(|field| (field.name(), values[*field as usize].shown()));
    let found: Vec<_> = shown
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    found.join(",")
}

/// What the integers of a column count.
#[derive(Clone, Copy)]
enum Unit {
    Plain,
    Days,
    PerSecond(i64),
}

impl Unit {
    fn of(column: Option<&ColumnDescriptor>) -> Self {
        let Some(column) = column else { return Self::Plain };
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Timestamp(stamp)), _) => Self::PerSecond(match stamp.unit {
                TimeUnit::MILLIS => 1_000,
                TimeUnit::MICROS => 1_000_000,
                TimeUnit::NANOS => 1_000_000_000,
            }),
            (_, ConvertedType::TIMESTAMP_MILLIS) => Self::PerSecond(1_000),
            (_, ConvertedType::TIMESTAMP_MICROS) => Self::PerSecond(1_000_000),
            (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => Self::Days,
            _ => Self::Plain,
        }
    }

    fn seconds(self, number: i64) -> i64 {
        match self {
            Self::Plain => number,
            Self::Days => number.saturating_mul(86_400),
            Self::PerSecond(parts) => number.div_euclid(parts),
        }
    }
}

struct Columns(Vec<(Field, Unit, bool, ColumnReader)>);

impl Columns {
    fn open<S: Source + 'static>(
        file: &SerializedFileReader<Chunks<S>>,
        group: usize,
        mapping: &[Option<Field>],
    ) -> Result<Self, IngestError> {
        let schema = file.metadata().file_metadata().schema_descr();
        let group = file.get_row_group(group).map_err(TableError::from)?;
        let mut columns = Vec::new();
        for (index, field) in mapping.iter().enumerate() {
            let Some(field) = field else { continue };
            let (unit, nullable) = flat(schema, index, *field)?;
            check_chunk(group.metadata().columns().get(index)).map_err(TableError::from)?;
            let pages = group.get_column_page_reader(index).map_err(TableError::from)?;
            let column = schema.column(index);
            let pages = Checked::new(pages, column.clone());
            let reader = get_column_reader(column, Box::new(pages));
            columns.push((*field, unit, nullable, reader));
        }
        Ok(Self(columns))
    }

    fn read(&mut self) -> Result<Vec<Values<'static>>, IngestError> {
        let mut rows: Vec<Values<'static>> = Vec::new();
        for (field, unit, nullable, reader) in &mut self.0 {
            let cells = cells(reader, *unit, *nullable).map_err(TableError::from)?;
            if rows.is_empty() {
                rows.resize_with(cells.len(), Values::default);
            }
            if rows.len() != cells.len() {
                return Err(IngestError::Rejected(
                    "the Parquet file's columns differ in length".into(),
                ));
            }
            for (row, cell) in rows.iter_mut().zip(cells) {
                row[*field as usize] = cell;
            }
        }
        Ok(rows)
    }
}

fn flat(schema: &SchemaDescriptor, index: usize, field: Field) -> Result<(Unit, bool), IngestError> {
    let column = schema.columns().get(index).map(Arc::as_ref);
    let flat = column.is_some_and(|column| column.max_rep_level() == 0 && column.max_def_level() <= 1);
    if !flat {
        let name = field.name();
        return Err(IngestError::Rejected(format!(
            "the column of `{name}` is nested, allowed are flat columns"
        )));
    }
    Ok((
        Unit::of(column),
        column.is_some_and(|column| column.max_def_level() == 1),
    ))
}

type Cells = Result<Vec<Value<'static>>, parquet::errors::ParquetError>;

fn cells(reader: &mut ColumnReader, unit: Unit, nullable: bool) -> Cells {
    match reader {
        ColumnReader::BoolColumnReader(reader) => typed(reader, nullable, |flag| Value::Bool(*flag)),
        ColumnReader::Int32ColumnReader(reader) => typed(reader, nullable, |number| {
            Value::Int(unit.seconds((*number).into()))
        }),
        ColumnReader::Int64ColumnReader(reader) => {
            typed(reader, nullable, |number| Value::Int(unit.seconds(*number)))
        }
        ColumnReader::FloatColumnReader(reader) => {
            typed(reader, nullable, |number| Value::Float((*number).into()))
        }
        ColumnReader::DoubleColumnReader(reader) => typed(reader, nullable, |number| Value::Float(*number)),
        ColumnReader::ByteArrayColumnReader(reader) => typed(reader, nullable, |bytes| {
            Value::Text(bytes.data().to_vec().into())
        }),
        ColumnReader::Int96ColumnReader(reader) => typed(reader, nullable, |_| Value::Other("an INT96")),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            typed(reader, nullable, |_| Value::Other("a fixed-length byte array"))
        }
    }
}

fn typed<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    nullable: bool,
    value: impl Fn(&T::T) -> Value<'static>,
) -> Cells {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    reader.read_records(BATCH, nullable.then_some(&mut levels), None, &mut values)?;
    if !nullable {
        return Ok(values.iter().map(value).collect());
    }
    let mut values = values.iter();
    let cell = |level: &i16| {
        if *level == 1 {
            values.next().map(&value)
        } else {
            None
        }
    };
    Ok(levels.iter().map(cell).map(Option::unwrap_or_default).collect())
}
