//! Pages of a Parquet column, looked at before they are decoded: the decoder takes some mistakes of a file for its
//! own and panics, which ends a component without a word about the file.

use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::schema::types::ColumnDescPtr;

/// Refuses metadata that points nowhere: the reader takes offsets and lengths to be positive.
pub(super) fn check_chunk(chunk: Option<&ColumnChunkMetaData>) -> Result<()> {
    let chunk = chunk.ok_or_else(|| wrong("is missing from a row group"))?;
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset());
    if start < 0 || chunk.compressed_size() < 0 {
        return Err(wrong("begins or ends before the file does"));
    }
    Ok(())
}

/// Pages that are what they say, as far as the decoder does not see to it.
pub(super) struct Checked {
    pages: Box<dyn PageReader>,
    column: ColumnDescPtr,
    dictionary: bool,
}

impl Checked {
    pub(super) fn new(pages: Box<dyn PageReader>, column: ColumnDescPtr) -> Self {
        Self {
            pages,
            column,
            dictionary: false,
        }
    }

    fn check(&mut self, page: &Page) -> Result<()> {
        let encoding = page.encoding();
        match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                self.dictionary = true;
                let texts = self.column.physical_type() == Type::BYTE_ARRAY;
                if texts && !holds_texts(buf, *num_values) {
                    return Err(wrong("has a dictionary that is cut short"));
                }
            }
            _ if by_dictionary(encoding) && !self.dictionary => {
                return Err(wrong("has values of a dictionary that is not there"));
            }
            _ if encoding == Encoding::DELTA_BINARY_PACKED
                && page.num_values() > 0
                && self.values(page).and_then(delta_count) == Some(0) =>
            {
                return Err(wrong("has a page of differences that says it is empty"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The values of a data page, behind its levels.
    fn values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DataPage { buf, .. } if self.column.max_def_level() > 0 => {
                let (length, rest) = buf.split_first_chunk()?;
                rest.get(u32::from_le_bytes(*length) as usize..)
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => buf.get(def_levels_byte_len.checked_add(*rep_levels_byte_len)? as usize..),
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => Some(buf),
        }
    }
}

/// Whether there are so many byte arrays, each behind its length.
fn holds_texts(mut bytes: &[u8], count: u32) -> bool {
    (0..count).all(|_| {
        let after = bytes.split_first_chunk().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.get(length..)
        });
        bytes = after.unwrap_or_default();
        after.is_some()
    })
}

/// How many values a page of differences says it has: the third number of its header.
fn delta_count(bytes: &[u8]) -> Option<u64> {
    let mut bytes = bytes.iter();
    let mut number = || {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(*bytes.next()?);
            number |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    };
    number()?;
    number()?;
    number()
}

fn by_dictionary(encoding: Encoding) -> bool {
    #[allow(deprecated)] // Older files have it.
    let old = Encoding::PLAIN_DICTIONARY;
    encoding == Encoding::RLE_DICTIONARY || encoding == old
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(format!("a column {what}"))
}

impl Iterator for Checked {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Checked {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}
