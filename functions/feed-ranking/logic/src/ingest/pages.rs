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
                if self.of_texts() && !holds_texts(buf, *num_values) {
                    return Err(wrong("has a dictionary that is cut short"));
                }
            }
            _ if by_dictionary(encoding) && !self.dictionary => {
                return Err(wrong("has values of a dictionary that is not there"));
            }
            _ if encoding == Encoding::PLAIN && self.of_texts() && !self.has_its_texts(page) => {
                return Err(wrong("has a page that is cut short"));
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

    fn of_texts(&self) -> bool {
        self.column.physical_type() == Type::BYTE_ARRAY
    }

    fn has_its_texts(&self, page: &Page) -> bool {
        let count = match self.levels(page) {
            Some(levels) => present(levels, page.num_values()),
            None => Some(page.num_values()),
        };
        let texts = self.values(page).zip(count);
        texts.is_some_and(|(values, count)| holds_texts(values, count))
    }

    /// What tells which rows of a data page have a value; none where all have one.
    fn levels<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        let (levels, _) = self.split(page)?;
        (self.column.max_def_level() > 0).then_some(levels)
    }

    /// The values of a data page, behind its levels.
    fn values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        self.split(page).map(|(_, values)| values)
    }

    fn split<'a>(&self, page: &'a Page) -> Option<(&'a [u8], &'a [u8])> {
        match page {
            Page::DataPage { buf, .. } if self.column.max_def_level() > 0 => {
                let (length, rest) = buf.split_first_chunk()?;
                rest.split_at_checked(u32::from_le_bytes(*length) as usize)
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                ..
            } => buf.split_at_checked(*def_levels_byte_len as usize),
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => Some((&[], buf)),
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

/// How many of `rows` levels of one bit are 1: runs of one level, and groups of eight that are packed.
fn present(levels: &[u8], rows: u32) -> Option<u32> {
    let (mut bytes, mut seen, mut ones) = (levels.iter(), 0, 0);
    while seen < rows {
        let header = number(&mut bytes)?;
        let (count, packed) = (header >> 1, header & 1 == 1);
        let mut left =
            if packed { count.saturating_mul(8) } else { count }.min(u64::from(rows - seen)) as u32;
        seen += left;
        if !packed {
            ones += left * u32::from(*bytes.next()? & 1);
            continue;
        }
        while left > 0 {
            let taken = left.min(8);
            let mask = (1_u32 << taken) - 1;
            ones += (u32::from(*bytes.next()?) & mask).count_ones();
            left -= taken;
        }
    }
    Some(ones)
}

/// A number of variable length.
fn number<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(*bytes.next()?);
        number |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// How many values a page of differences says it has: the third number of its header.
fn delta_count(bytes: &[u8]) -> Option<u64> {
    let mut bytes = bytes.iter();
    number(&mut bytes)?;
    number(&mut bytes)?;
    number(&mut bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_in_runs_and_in_packed_groups() {
        // Three times 1, twice 0, then 1 0 1 packed.
        let levels = [3 << 1, 1, 2 << 1, 0, 1 << 1 | 1, 0b101];
        assert_eq!(present(&levels, 8), Some(5));
        assert_eq!(present(&levels, 4), Some(3));
        assert_eq!(present(&levels, 14), None);
        assert_eq!(present(&[1 << 1, 1], u32::MAX), None);
    }

    #[test]
    fn texts_are_counted_by_their_lengths() {
        let bytes = [1, 0, 0, 0, b'a', 0, 0, 0, 0];
        assert!(holds_texts(&bytes, 2) && !holds_texts(&bytes, 3));
        assert!(!holds_texts(&bytes[..3], 1) && !holds_texts(&[9, 0, 0, 0, b'a'], 1));
    }
}
