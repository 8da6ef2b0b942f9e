//! Columns of Parquet files as they lie in memory, and their way into tensors and out of them.

use std::ops::Range;

use bytes::Bytes;
use parquet::basic::{LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};

use crate::inference::element::{Element, join, split};

/// Values of a column, by their type in the file.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// Some rows of a column that is not repeated.
#[derive(Debug, Clone)]
pub struct Column {
    /// The values that are there.
    pub values: Values,
    /// Of each row whether it has a value, as Parquet counts it; empty where every row has one.
    levels: Vec<i16>,
    /// The level of a row that has a value.
    whole: i16,
}

impl From<Values> for Column {
    fn from(values: Values) -> Self {
        Self {
            values,
            levels: Vec::new(),
            whole: 0,
        }
    }
}

impl Column {
    /// Reads so many rows of a column in which `whole` is the level of a value that is there.
    pub fn read(reader: &mut ColumnReader, rows: usize, whole: i16) -> Result<Self, String> {
        let mut levels = Vec::new();
        let to = &mut levels;
        let values = match reader {
            ColumnReader::BoolColumnReader(reader) => Values::Bool(some(reader, rows, to)?),
            ColumnReader::Int32ColumnReader(reader) => Values::Int32(some(reader, rows, to)?),
            ColumnReader::Int64ColumnReader(reader) => Values::Int64(some(reader, rows, to)?),
            ColumnReader::Int96ColumnReader(reader) => Values::Int96(some(reader, rows, to)?),
            ColumnReader::FloatColumnReader(reader) => Values::Float(some(reader, rows, to)?),
            ColumnReader::DoubleColumnReader(reader) => Values::Double(some(reader, rows, to)?),
            ColumnReader::ByteArrayColumnReader(reader) => Values::Bytes(some(reader, rows, to)?),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Values::Fixed(some(reader, rows, to)?),
        };
        Ok(Self {
            values,
            levels,
            whole,
        })
    }

    /// Writes all of it to a column of the same type.
    pub fn write(&self, to: &mut ColumnWriter<'_>) -> Result<(), String> {
        let levels = (!self.levels.is_empty()).then_some(self.levels.as_slice());
        let written = match (&self.values, to) {
            (Values::Bool(of), ColumnWriter::BoolColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Int32(of), ColumnWriter::Int32ColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Int64(of), ColumnWriter::Int64ColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Int96(of), ColumnWriter::Int96ColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Float(of), ColumnWriter::FloatColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Double(of), ColumnWriter::DoubleColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Bytes(of), ColumnWriter::ByteArrayColumnWriter(to)) => to.write_batch(of, levels, None),
            (Values::Fixed(of), ColumnWriter::FixedLenByteArrayColumnWriter(to)) => {
                to.write_batch(of, levels, None)
            }
            _ => return Err("has values of another type than its file says".to_owned()),
        };
        written.map(drop).map_err(|error| error.to_string())
    }

    /// The first of some rows that has no value.
    pub fn null(&self, mut rows: Range<usize>) -> Option<usize> {
        rows.find(|&row| self.levels.get(row).is_some_and(|&level| level < self.whole))
    }
}

/// The next rows of a column.
fn some<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    levels: &mut Vec<i16>,
) -> Result<Vec<T::T>, String> {
    let (mut values, mut records) = (Vec::with_capacity(rows), 0);
    while records < rows {
        let read = reader.read_records(rows - records, Some(levels), None, &mut values);
        let (read, _, _) = read.map_err(|error| format!("cannot be read: {error}"))?;
        if read == 0 {
            return Err(format!("ends {} rows too early", rows - records));
        }
        records += read;
    }
    Ok(values)
}

/// The types of columns that an element is made of; none of what no column has.
pub fn sources(element: Element) -> &'static [Physical] {
    const WHOLE: [Physical; 3] = [Physical::INT32, Physical::INT64, Physical::BOOLEAN];
    const NUMBERS: [Physical; 5] = [
        Physical::FLOAT,
        Physical::DOUBLE,
        Physical::INT32,
        Physical::INT64,
        Physical::BOOLEAN,
    ];
    match element {
        Element::Fp32 | Element::Fp64 => &NUMBERS,
        Element::Bool => &[Physical::BOOLEAN],
        Element::Bytes => &[Physical::BYTE_ARRAY],
        Element::Fp16 => &[],
        _ => &WHOLE,
    }
}

/// The type of the column that an element goes into; none of what has no place in one.
pub fn target(element: Element) -> Option<(Physical, Option<LogicalType>)> {
    Some(match element {
        Element::Bool => (Physical::BOOLEAN, None),
        Element::Int8 | Element::Int16 | Element::Int32 | Element::Uint8 | Element::Uint16 => {
            (Physical::INT32, None)
        }
        Element::Int64 | Element::Uint32 => (Physical::INT64, None),
        Element::Fp32 => (Physical::FLOAT, None),
        Element::Fp64 => (Physical::DOUBLE, None),
        Element::Bytes => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Element::Uint64 | Element::Fp16 => return None,
    })
}

/// A tensor's elements, little-endian, of rows that lie side by side in columns. The error names the row, counted from that of
/// the columns' first, and what is in it.
pub fn raw(columns: &[&Column], rows: Range<usize>, first: u64, element: Element) -> Result<Bytes, String> {
    if element == Element::Bytes {
        let texts = rows.flat_map(|row| columns.iter().map(move |column| column.values.text(row)));
        return Ok(join(texts));
    }
    let mut raw = vec![0; rows.len() * columns.len() * element.size().unwrap_or(0)];
    for (at, column) in columns.iter().enumerate() {
        let place = (&mut *raw, at, columns.len());
        column
            .values
            .fill(rows.clone(), element, place)
            .map_err(|(row, found)| {
                let row = first + row as u64;
                format!("has {found} in row {row}, which is beyond the input's type")
            })?;
    }
    Ok(raw.into())
}

/// Bytes of rows, a column in them, and how many columns there are.
type Place<'a> = (&'a mut [u8], usize, usize);

impl Values {
    /// No values yet, for elements of a type.
    pub fn empty(element: Element) -> Self {
        match target(element).map(|(kind, _)| kind) {
            Some(Physical::BOOLEAN) => Self::Bool(Vec::new()),
            Some(Physical::INT32) => Self::Int32(Vec::new()),
            Some(Physical::FLOAT) => Self::Float(Vec::new()),
            Some(Physical::DOUBLE) => Self::Double(Vec::new()),
            Some(Physical::BYTE_ARRAY) => Self::Bytes(Vec::new()),
            _ => Self::Int64(Vec::new()),
        }
    }

    /// Appends the elements of one of `width` columns.
    pub fn take(&mut self, element: Element, raw: &[u8], at: usize, width: usize) {
        match (self, element) {
            (Self::Bool(to), _) => to.extend(apart::<1>(raw, at, width).map(|[byte]| byte != 0)),
            (Self::Int32(to), Element::Int8) => {
                to.extend(apart(raw, at, width).map(|of| i32::from(i8::from_le_bytes(of))));
            }
            (Self::Int32(to), Element::Uint8) => {
                to.extend(apart::<1>(raw, at, width).map(|[byte]| i32::from(byte)))
            }
            (Self::Int32(to), Element::Int16) => {
                to.extend(apart(raw, at, width).map(|of| i32::from(i16::from_le_bytes(of))));
            }
            (Self::Int32(to), Element::Uint16) => {
                to.extend(apart(raw, at, width).map(|of| i32::from(u16::from_le_bytes(of))));
            }
            (Self::Int32(to), _) => to.extend(apart(raw, at, width).map(i32::from_le_bytes)),
            (Self::Int64(to), Element::Uint32) => {
                to.extend(apart(raw, at, width).map(|of| i64::from(u32::from_le_bytes(of))));
            }
            (Self::Int64(to), _) => to.extend(apart(raw, at, width).map(i64::from_le_bytes)),
            (Self::Float(to), _) => to.extend(apart(raw, at, width).map(f32::from_le_bytes)),
            (Self::Double(to), _) => to.extend(apart(raw, at, width).map(f64::from_le_bytes)),
            (Self::Bytes(to), _) => {
                let texts = split(raw).unwrap_or_default();
                let texts = texts.into_iter().skip(at).step_by(width);
                to.extend(texts.map(|text| ByteArray::from(text.to_vec())));
            }
            // No element goes into them.
            (Self::Int96(_) | Self::Fixed(_), _) => {}
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(of) => of.len(),
            Self::Int32(of) => of.len(),
            Self::Int64(of) => of.len(),
            Self::Int96(of) => of.len(),
            Self::Float(of) => of.len(),
            Self::Double(of) => of.len(),
            Self::Bytes(of) => of.len(),
            Self::Fixed(of) => of.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some rows as numbers; none of what is no number.
    pub fn numbers(&self, rows: Range<usize>) -> Vec<f64> {
        match self {
            Self::Float(of) => of
                .get(rows)
                .into_iter()
                .flatten()
                .map(|&of| f64::from(of))
                .collect(),
            Self::Double(of) => of.get(rows).unwrap_or_default().to_vec(),
            _ => self.wholes(rows).into_iter().map(|of| of as f64).collect(),
        }
    }

    fn wholes(&self, rows: Range<usize>) -> Vec<i64> {
        match self {
            Self::Bool(of) => of
                .get(rows)
                .into_iter()
                .flatten()
                .map(|&of| i64::from(of))
                .collect(),
            Self::Int32(of) => of
                .get(rows)
                .into_iter()
                .flatten()
                .map(|&of| i64::from(of))
                .collect(),
            Self::Int64(of) => of.get(rows).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        }
    }

    fn text(&self, row: usize) -> &[u8] {
        match self {
            Self::Bytes(of) => of.get(row).map_or(&[], ByteArray::data),
            _ => &[],
        }
    }

    /// Puts rows into their place in a tensor; or the row, and what is in it, that has none there.
    fn fill(&self, rows: Range<usize>, element: Element, place: Place<'_>) -> Result<(), (usize, i64)> {
        let first = rows.start;
        match element {
            Element::Fp32 => put(place, self.numbers(rows), |of| (of as f32).to_le_bytes()),
            Element::Fp64 => put(place, self.numbers(rows), f64::to_le_bytes),
            Element::Bool | Element::Uint8 => narrow(place, first, self.wholes(rows), u8::to_le_bytes)?,
            Element::Uint16 => narrow(place, first, self.wholes(rows), u16::to_le_bytes)?,
            Element::Uint32 => narrow(place, first, self.wholes(rows), u32::to_le_bytes)?,
            Element::Uint64 => narrow(place, first, self.wholes(rows), u64::to_le_bytes)?,
            Element::Int8 => narrow(place, first, self.wholes(rows), i8::to_le_bytes)?,
            Element::Int16 => narrow(place, first, self.wholes(rows), i16::to_le_bytes)?,
            Element::Int32 => narrow(place, first, self.wholes(rows), i32::to_le_bytes)?,
            Element::Int64 => narrow(place, first, self.wholes(rows), i64::to_le_bytes)?,
            // No column is made of them, or not by place.
            Element::Fp16 | Element::Bytes => {}
        }
        Ok(())
    }
}

/// The elements of one of `width` columns.
fn apart<const N: usize>(raw: &[u8], at: usize, width: usize) -> impl Iterator<Item = [u8; N]> {
    raw.as_chunks().0.iter().skip(at).step_by(width.max(1)).copied()
}

fn put<T, const N: usize>((raw, at, width): Place<'_>, values: Vec<T>, of: impl Fn(T) -> [u8; N]) {
    let slots = raw.as_chunks_mut().0.iter_mut().skip(at).step_by(width.max(1));
    slots.zip(values).for_each(|(slot, value)| *slot = of(value));
}

fn narrow<T: TryFrom<i64>, const N: usize>(
    place: Place<'_>,
    first: usize,
    values: Vec<i64>,
    of: impl Fn(T) -> [u8; N],
) -> Result<(), (usize, i64)> {
    let fits = |(row, value): (usize, i64)| T::try_from(value).map_err(|_| (first + row, value));
    let values: Result<Vec<T>, _> = values.into_iter().enumerate().map(fits).collect();
    put(place, values?, of);
    Ok(())
}
