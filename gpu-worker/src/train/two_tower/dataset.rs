//! Reads a training set: `dataset.json` and plain Parquet columns, a row group at a time, checked while read.

use std::fs::File;
use std::ops::Range;

use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde::Deserialize;

use crate::train::column::Column;
use crate::train::columns::{groups, read_floats, read_ids, scatter};
use crate::train::scaling::{Scaling, normalise};

/// What is wrong with a training set.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// `dataset.json` does not say what it must.
    #[error("`dataset.json` {0}")]
    Manifest(String),
    /// A split's file is not a readable Parquet file.
    #[error("`{split}.parquet` cannot be read: {reason}")]
    Unreadable {
        /// The split.
        split: String,
        /// What the reader said.
        reason: String,
    },
    /// A split's rows do not fit the contract.
    #[error("`{split}.parquet` {reason}")]
    Content {
        /// The split.
        split: String,
        /// What was found and what was allowed.
        reason: String,
    },
}

/// Scaling of both sides.
#[derive(Debug, Clone, Deserialize)]
pub struct Normalisation {
    /// The user side.
    pub user: Scaling,
    /// The item side.
    pub item: Scaling,
}

/// What `dataset.json` says; keys the worker has no use for are passed over.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// The data set's id.
    pub dataset: String,
    /// Names of the `user.` columns, in order.
    pub user_features: Vec<String>,
    /// Names of the `item.` columns, in order.
    pub item_features: Vec<String>,
    /// Scaling of the columns, in the same order.
    pub normalisation: Normalisation,
    /// Digest of the training set.
    pub digest: String,
}

impl Manifest {
    /// Reads and checks `dataset.json`.
    pub fn parse(content: &[u8]) -> Result<Self, DatasetError> {
        let manifest: Self = serde_json::from_slice(content)
            .map_err(|e| DatasetError::Manifest(format!("is malformed: {e}")))?;
        let sides = [
            ("user", &manifest.user_features, &manifest.normalisation.user),
            ("item", &manifest.item_features, &manifest.normalisation.item),
        ];
        for (side, names, scaling) in sides {
            if scaling.mean.len() != names.len() || scaling.std.len() != names.len() {
                return Err(DatasetError::Manifest(format!(
                    "has {} {side} features but {} means and {} deviations",
                    names.len(),
                    scaling.mean.len(),
                    scaling.std.len()
                )));
            }
            if !scaling.mean.iter().chain(&scaling.std).all(|v| v.is_finite()) {
                return Err(DatasetError::Manifest(format!(
                    "has a {side} mean or deviation that is not finite"
                )));
            }
        }
        Ok(manifest)
    }
}

/// The rows of one split: `16 + 4 * (1 + features)` bytes a row.
#[derive(Debug, Default)]
pub struct Split {
    /// User ids.
    pub user_id: Column<i64>,
    /// Item ids.
    pub item_id: Column<i64>,
    /// 0 or 1.
    pub label: Column<f32>,
    /// Normalised user features, row by row.
    pub user: Column<f32>,
    /// Normalised item features, row by row.
    pub item: Column<f32>,
}

impl Split {
    /// Rows in the split.
    pub fn len(&self) -> usize {
        self.label.len()
    }

    /// Whether the split has no rows.
    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Reads, checks and normalises the split called `name`.
    pub fn read(name: &str, file: File, manifest: &Manifest) -> Result<Self, DatasetError> {
        let unreadable = |reason: String| DatasetError::Unreadable {
            split: name.to_owned(),
            reason,
        };
        let reader = SerializedFileReader::new(file).map_err(|e| unreadable(e.to_string()))?;
        let columns =
            Columns::find(reader.metadata().file_metadata().schema_descr(), manifest).map_err(|reason| {
                DatasetError::Content {
                    split: name.to_owned(),
                    reason,
                }
            })?;
        let rows = groups(reader.metadata());
        let all = rows.last().map_or(0, |group| group.end);
        let mut split = Self::sized(all, manifest).map_err(unreadable)?;
        for (group, rows) in rows.into_iter().enumerate() {
            let group = reader
                .get_row_group(group)
                .map_err(|e| unreadable(e.to_string()))?;
            columns.fill(&mut split, &*group, rows).map_err(unreadable)?;
        }
        split.check(name, manifest)?;
        split.normalise(manifest);
        Ok(split)
    }

    /// A split of so many rows, all zeroes.
    fn sized(rows: usize, manifest: &Manifest) -> Result<Self, String> {
        Ok(Self {
            user_id: Column::zeroed(rows)?,
            item_id: Column::zeroed(rows)?,
            label: Column::zeroed(rows)?,
            user: Column::zeroed(rows.saturating_mul(manifest.user_features.len()))?,
            item: Column::zeroed(rows.saturating_mul(manifest.item_features.len()))?,
        })
    }

    /// Refuses what training must not see, naming the first offender.
    fn check(&self, name: &str, manifest: &Manifest) -> Result<(), DatasetError> {
        let refuse = |reason: String| {
            Err(DatasetError::Content {
                split: name.to_owned(),
                reason,
            })
        };
        if self.is_empty() {
            return refuse("has no rows, at least one of each class is needed".to_owned());
        }
        if let Some(row) = self.label.iter().position(|&label| label != 0.0 && label != 1.0) {
            return refuse(format!(
                "has `label` {} in row {row}, allowed are 0 and 1",
                self.label[row]
            ));
        }
        for (side, values, names) in [
            ("user", &self.user, &manifest.user_features),
            ("item", &self.item, &manifest.item_features),
        ] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, column) = (at / names.len(), at % names.len());
                return refuse(format!(
                    "has {} in column `{side}.{}`, row {row}; only finite numbers are allowed",
                    values[at], names[column]
                ));
            }
        }
        let positives = self.label.iter().filter(|&&label| label == 1.0).count();
        if positives == 0 || positives == self.len() {
            let only = u8::from(positives > 0);
            return refuse(format!(
                "has only label {only} in {} rows, both classes are needed",
                self.len()
            ));
        }
        Ok(())
    }

    fn normalise(&mut self, manifest: &Manifest) {
        normalise(&mut self.user, &manifest.normalisation.user);
        normalise(&mut self.item, &manifest.normalisation.item);
    }
}

/// Where the needed columns are in a file.
struct Columns {
    user_id: usize,
    item_id: usize,
    label: usize,
    user: Vec<usize>,
    item: Vec<usize>,
}

impl Columns {
    fn find(schema: &SchemaDescriptor, manifest: &Manifest) -> Result<Self, String> {
        let present: Vec<String> = schema
            .columns()
            .iter()
            .map(|column| column.path().parts().join("."))
            .collect();
        let mut missing = Vec::new();
        let mut find = |name: String| match present.iter().position(|found| *found == name) {
            Some(index) => index,
            None => {
                missing.push(name);
                0
            }
        };
        let columns = Self {
            user_id: find("user_id".to_owned()),
            item_id: find("item_id".to_owned()),
            label: find("label".to_owned()),
            user: manifest
                .user_features
                .iter()
                .map(|name| find(format!("user.{name}")))
                .collect(),
            item: manifest
                .item_features
                .iter()
                .map(|name| find(format!("item.{name}")))
                .collect(),
        };
        if missing.is_empty() {
            return Ok(columns);
        }
        Err(format!(
            "lacks column(s) `{}`; found `{}`",
            missing.join("`, `"),
            present.join("`, `")
        ))
    }

    /// Reads a row group into the rows that are its own, features row by row.
    fn fill(&self, split: &mut Split, group: &dyn RowGroupReader, rows: Range<usize>) -> Result<(), String> {
        let named = |index: usize| {
            let path = group.metadata().column(index).column_path().string();
            move |error: String| format!("column `{path}`: {error}")
        };
        let column = |index: usize| group.get_column_reader(index).map_err(|error| error.to_string());
        let numbers = |index: usize| {
            let read = column(index).and_then(|column| read_floats(column, rows.len()));
            read.map_err(named(index))
        };
        scatter(numbers(self.label)?, &mut split.label[rows.clone()], 0, 1);
        for (indices, values) in [(&self.user, &mut split.user), (&self.item, &mut split.item)] {
            let width = indices.len();
            let into = &mut values[rows.start * width..rows.end * width];
            for (offset, &index) in indices.iter().enumerate() {
                scatter(numbers(index)?, into, offset, width);
            }
        }
        let ids = [
            (&mut split.user_id, self.user_id),
            (&mut split.item_id, self.item_id),
        ];
        for (values, index) in ids {
            let read = column(index).and_then(|column| read_ids(column, rows.len()));
            values[rows.clone()].copy_from_slice(&read.map_err(named(index))?);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
