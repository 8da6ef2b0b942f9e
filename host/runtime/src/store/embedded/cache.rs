//! Rows of the state that were read lately, kept in memory.
//!
//! A read must see one point in time, whether a row comes from here or from the database. So the writer says
//! which rows a group changes before it commits them and when it is done: in between those rows are read from
//! the database alone. What the cache gives for any other row holds before and after the group.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use fjall::{Database, Keyspace, Readable as _};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::rows::decode_value;
use crate::store::{StoreError, Versioned};

/// What a kept row takes besides its key and value, about, in bytes.
const OVERHEAD: u64 = 96;
/// The size of a usual row, in bytes.
const USUAL: u64 = 256;

/// A row; none when the store has no such key.
pub(super) type Row = Option<Versioned>;

pub(super) struct RowCache {
    rows: Cache<Vec<u8>, Row, Bytes>,
    writing: RwLock<Writing>,
}

/// The group that is being committed.
#[derive(Default)]
struct Writing {
    rows: HashSet<Vec<u8>>,
    /// Counts the groups.
    group: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Vec<u8>, Row> for Bytes {
    fn weight(&self, key: &Vec<u8>, row: &Row) -> u64 {
        OVERHEAD + (key.len() + row.as_ref().map_or(0, |row| row.value.len())) as u64
    }
}

impl RowCache {
    /// A cache that holds rows of up to `bytes` bytes together.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            rows: Cache::with_weighter((bytes / USUAL) as usize, bytes, Bytes),
            writing: RwLock::default(),
        }
    }

    /// Rows as they are at one moment, in the order of their keys.
    pub(super) fn read(
        &self,
        db: &Database,
        state: &Keyspace,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        let (snapshot, changing, group) = {
            let writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
            let changing = !writing.rows.is_empty() && keys.iter().any(|key| writing.rows.contains(key));
            for (index, key) in keys.iter().enumerate() {
                match self.rows.get(key).filter(|_| !changing) {
                    Some(row) => rows.push(row),
                    None => {
                        rows.push(None);
                        missing.push(index);
                    }
                }
            }
            if missing.is_empty() {
                return Ok(rows);
            }
            (db.snapshot(), changing, writing.group)
        };
        for index in missing {
            let row = snapshot.get(state, &keys[index]).map_err(StoreError::new)?;
            rows[index] = row.map(|row| decode_value(&row)).transpose()?;
            // While a group changes the rows, the snapshot may be older than what it commits.
            if !changing {
                self.keep(group, &keys[index], &rows[index]);
            }
        }
        Ok(rows)
    }

    /// Keeps a row that `group` did not change, unless a later one may have changed it since.
    fn keep(&self, group: u64, key: &[u8], row: &Row) {
        let writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        if writing.group == group {
            self.rows.insert(key.to_vec(), row.clone());
        }
    }

    /// A row as it is now, if it is kept; asked by the writer, who alone changes rows.
    pub(super) fn kept(&self, key: &[u8]) -> Option<Row> {
        self.rows.get(key)
    }

    /// A group is about to change these rows.
    pub(super) fn begin<'a>(&self, rows: impl Iterator<Item = &'a Vec<u8>>) {
        let mut writing = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        writing.group += 1;
        for row in rows {
            self.rows.remove(row);
            writing.rows.insert(row.clone());
        }
    }

    /// The group is committed, or is not: the database tells.
    pub(super) fn end(&self) {
        self.writing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .rows
            .clear();
    }
}
