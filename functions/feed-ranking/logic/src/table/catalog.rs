//! The item catalogue, `catalog/items.parquet`: item_id, title, categories separated by `|`.

use std::io::Write;
use std::sync::Arc;

use parquet::data_type::Int64Type;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RowAccessor;

use super::write::{column, properties, schema, text};
use super::{Chunks, Source, TableError, TextColumn};

const SCHEMA: &str = "message items {
    REQUIRED INT64 item_id;
    OPTIONAL BYTE_ARRAY title (UTF8);
    OPTIONAL BYTE_ARRAY categories (UTF8);
}";

/// Items of a row group.
const GROUP: usize = 16_384;

/// One item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The item.
    pub item_id: i64,
    /// Its title.
    pub title: Option<String>,
    /// Its categories, separated by `|`.
    pub categories: Option<String>,
}

/// Writes items.
pub struct ItemsWriter<W: Write + Send> {
    inner: SerializedFileWriter<W>,
    ids: Vec<i64>,
    titles: TextColumn,
    categories: TextColumn,
    rows: u64,
}

impl<W: Write + Send> ItemsWriter<W> {
    /// Begins a file.
    pub fn new(sink: W) -> Result<Self, TableError> {
        let inner = SerializedFileWriter::new(sink, schema(SCHEMA)?, properties(&["categories"]))?;
        let (titles, categories) = Default::default();
        Ok(Self {
            inner,
            ids: Vec::new(),
            titles,
            categories,
            rows: 0,
        })
    }

    /// Appends an item.
    pub fn push(&mut self, id: i64, title: Option<&str>, categories: Option<&str>) -> Result<(), TableError> {
        self.ids.push(id);
        self.titles.push(title);
        self.categories.push(categories);
        self.rows += 1;
        if self.ids.len() >= GROUP {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), TableError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let mut group = self.inner.next_row_group()?;
        column::<Int64Type>(&mut group, &self.ids, None)?;
        text(&mut group, &self.titles)?;
        text(&mut group, &self.categories)?;
        group.close()?;
        self.ids.clear();
        (self.titles, self.categories) = Default::default();
        Ok(())
    }

    /// Writes the footer and gives the sink and the number of items back.
    pub fn finish(mut self) -> Result<(W, u64), TableError> {
        self.flush()?;
        Ok((self.inner.into_inner()?, self.rows))
    }
}

/// Reads at most `limit` items; a longer catalogue is an error.
pub fn read_items<S: Source + ?Sized + 'static>(
    source: Arc<S>,
    limit: usize,
) -> Result<Vec<Item>, TableError> {
    let file = SerializedFileReader::new(Chunks(source))?;
    let rows = file.metadata().file_metadata().num_rows();
    if usize::try_from(rows).map_or(true, |rows| rows > limit) {
        return Err(TableError::Schema(format!(
            "found {rows} items, allowed are {limit}"
        )));
    }
    let mut items = Vec::new();
    for row in file.get_row_iter(None)? {
        let row = row?;
        items.push(Item {
            item_id: row.get_long(0)?,
            title: row.get_string(1).ok().cloned(),
            categories: row.get_string(2).ok().cloned(),
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn items_are_read_back_as_they_were_written() {
        let mut writer = ItemsWriter::new(Vec::new()).unwrap();
        writer
            .push(1, Some("Toy Story"), Some("Animation|Comedy"))
            .unwrap();
        writer.push(2, None, None).unwrap();
        let (bytes, rows) = writer.finish().unwrap();
        assert_eq!(rows, 2);
        let source = Arc::new(Bytes::from(bytes));
        let items = read_items(source.clone(), 10).unwrap();
        assert_eq!(items[0].categories.as_deref(), Some("Animation|Comedy"));
        assert_eq!(
            items[1],
            Item {
                item_id: 2,
                ..Item::default()
            }
        );
        assert!(
            read_items(source, 1)
                .unwrap_err()
                .to_string()
                .contains("allowed are 1")
        );
    }
}
