//! A Parquet file, read a few rows at a time.

use std::fs::File;

use parquet::column::reader::ColumnReader;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::ColumnDescPtr;

use super::values::Column;

/// Rows that are in memory at one time, and of a row group that is written.
pub const PIECE: usize = 16_384;

/// A Parquet file.
pub struct Table {
    reader: SerializedFileReader<File>,
}

/// Rows of a table, with the columns that were asked for.
#[derive(Debug)]
pub struct Piece {
    /// How many.
    pub rows: usize,
    /// The number of the first one, in the file.
    pub first: u64,
    /// The columns.
    pub columns: Vec<Column>,
}

impl Table {
    /// Opens a file; the error says what about it is no Parquet.
    pub fn open(file: File) -> Result<Self, String> {
        let reader = SerializedFileReader::new(file);
        let reader = reader.map_err(|error| format!("cannot be read: {error}"))?;
        Ok(Self { reader })
    }

    /// Its columns; those within groups have paths.
    pub fn columns(&self) -> &[ColumnDescPtr] {
        self.reader.metadata().file_metadata().schema_descr().columns()
    }

    /// The names of its columns.
    pub fn names(&self) -> Vec<String> {
        let name = |column: &ColumnDescPtr| column.path().parts().join(".");
        self.columns().iter().map(name).collect()
    }

    /// All of its rows, of the columns at these places.
    pub fn pieces<'a>(&'a self, columns: &[usize]) -> Pieces<'a> {
        Pieces {
            table: self,
            columns: columns.to_vec(),
            group: 0,
            left: 0,
            first: 0,
            readers: Vec::new(),
        }
    }
}

/// Rows of a table, a piece at a time. No piece is of two row groups.
pub struct Pieces<'a> {
    table: &'a Table,
    columns: Vec<usize>,
    /// The next row group.
    group: usize,
    /// Rows of the one before it that are still to come.
    left: usize,
    first: u64,
    readers: Vec<ColumnReader>,
}

impl Pieces<'_> {
    /// The next rows; none at the end.
    pub fn read(&mut self) -> Result<Option<Piece>, String> {
        while self.left == 0 {
            if self.group >= self.table.reader.num_row_groups() {
                return Ok(None);
            }
            self.open_group()
                .map_err(|error| format!("cannot be read: {error}"))?;
        }
        let rows = self.left.min(PIECE);
        let described = self.table.columns();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (&at, reader) in self.columns.iter().zip(&mut self.readers) {
            let whole = described.get(at).map_or(0, |column| column.max_def_level());
            let name = || described.get(at).map_or("", |column| column.name()).to_owned();
            let read = Column::read(reader, rows, whole);
            columns.push(read.map_err(|error| format!("column `{}` {error}", name()))?);
        }
        let first = self.first;
        self.left -= rows;
        self.first += rows as u64;
        Ok(Some(Piece { rows, first, columns }))
    }

    fn open_group(&mut self) -> parquet::errors::Result<()> {
        let group = self.table.reader.get_row_group(self.group)?;
        let readers = self.columns.iter().map(|&at| group.get_column_reader(at));
        self.readers = readers.collect::<Result<_, _>>()?;
        self.left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        self.group += 1;
        Ok(())
    }
}
