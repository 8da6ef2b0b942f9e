//! Columns in memory, one slot per row, so that any row can be looked at.

use std::sync::Arc;

use super::hash::FastMap;

/// A nullable column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column<T> {
    values: Vec<T>,
    present: Vec<i16>,
}

impl<T: Copy + Default> Column<T> {
    /// Appends a row.
    pub fn push(&mut self, value: Option<T>) {
        self.values.push(value.unwrap_or_default());
        self.present.push(value.is_some().into());
    }

    /// The value at `row`; none where it is null or there is no such row.
    pub fn get(&self, row: usize) -> Option<T> {
        match self.present.get(row) {
            Some(1) => self.values.get(row).copied(),
            _ => None,
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every row, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<T>> {
        self.values
            .iter()
            .zip(&self.present)
            .map(|(value, present)| (*present == 1).then_some(*value))
    }

    /// Parquet's form: the values that are there, and a definition level per row.
    pub(super) fn parts(&self) -> (std::borrow::Cow<'_, [T]>, &[i16]) {
        if self.present.iter().all(|present| *present == 1) {
            return (self.values.as_slice().into(), &self.present);
        }
        (self.iter().flatten().collect::<Vec<_>>().into(), &self.present)
    }

    /// Appends rows in Parquet's form.
    pub(super) fn extend<U: Copy + Into<T>>(&mut self, values: &[U], levels: &[i16]) {
        let mut values = values.iter();
        for level in levels {
            self.push(if *level == 1 {
                values.next().map(|value| (*value).into())
            } else {
                None
            });
        }
    }
}

/// A nullable column of text with few distinct values.
#[derive(Clone, Debug, Default)]
pub struct TextColumn {
    codes: Vec<u32>,
    words: Vec<Arc<str>>,
    index: FastMap<Arc<str>, u32>,
}

const NULL: u32 = u32::MAX;

impl TextColumn {
    /// Appends a row.
    pub fn push(&mut self, text: Option<&str>) {
        let code = match text {
            None => NULL,
            Some(text) => self.code(text),
        };
        self.codes.push(code);
    }

    fn code(&mut self, text: &str) -> u32 {
        if let Some(last) = self.codes.last().filter(|last| self.word(**last) == Some(text)) {
            return *last;
        }
        if let Some(code) = self.index.get(text) {
            return *code;
        }
        let word: Arc<str> = text.into();
        let code = self.words.len() as u32;
        self.words.push(word.clone());
        self.index.insert(word, code);
        code
    }

    fn word(&self, code: u32) -> Option<&str> {
        self.words.get(code as usize).map(AsRef::as_ref)
    }

    /// The text at `row`; none where it is null or there is no such row.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.codes.get(row).and_then(|code| self.word(*code))
    }

    /// For each row the place of its text in [`Self::words`]; past the end for null.
    pub(super) fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// The distinct texts.
    pub(super) fn words(&self) -> &[Arc<str>] {
        &self.words
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Every row, in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        self.codes.iter().map(|code| self.word(*code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_keeps_nulls_in_their_rows() {
        let mut column = Column::default();
        for value in [Some(3_i32), None, Some(5)] {
            column.push(value);
        }
        assert_eq!(
            (column.get(0), column.get(1), column.get(2), column.get(3)),
            (Some(3), None, Some(5), None)
        );
        let (values, levels) = column.parts();
        assert_eq!(
            (values.as_ref(), levels),
            ([3, 5].as_slice(), [1, 0, 1].as_slice())
        );
        let mut again = Column::<i32>::default();
        again.extend(&values, levels);
        assert_eq!(again, column);
    }

    #[test]
    fn a_text_column_gives_back_what_was_pushed() {
        let mut column = TextColumn::default();
        let rows = [Some("phone"), None, Some("tablet"), Some("phone"), Some("")];
        rows.iter().for_each(|text| column.push(*text));
        assert_eq!(column.iter().collect::<Vec<_>>(), rows);
        assert_eq!(column.words.len(), 3);
    }
}
