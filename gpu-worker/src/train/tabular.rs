//! Tabular data sets: Parquet files whose columns a job's configuration names, read a row group at a time.

use std::fs::File;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::{Value, json};

use super::column::Column;
use super::columns::{groups, read_floats, scatter};
use super::fields::{ClassWeights, Fields, Location};
use crate::jobs::session::{JobError, Session};

/// Features at most.
const MOST_FEATURES: usize = 4096;

/// What every kind of job on tabular data is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Name of the model, kept in the exported file (`model`, required).
    pub model: String,
    /// Where `train.parquet` and `validation.parquet` lie (`dataset`, required).
    pub dataset: Location,
    /// Where the model goes (`output`, required).
    pub output: Location,
    /// The columns that the model takes, in order (`features`, required).
    pub features: Vec<String>,
    /// The column of what it learns, 0 or 1 (`label`, "label").
    pub label: String,
    /// How much rows of either class count (`class_weights`, both 1).
    pub class_weights: ClassWeights,
}

impl Source {
    /// Takes its fields.
    pub fn parse(fields: &mut Fields) -> Self {
        Self {
            model: fields.text("model", None),
            dataset: fields.location("dataset"),
            output: fields.location("output"),
            features: fields.names("features", MOST_FEATURES),
            label: fields.text("label", Some("label")),
            class_weights: fields.class_weights(),
        }
    }

    /// The facts that go into the exported file.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        vec![
            ("features", Value::from(self.features.clone()).to_string()),
            ("label", self.label.clone()),
        ]
    }

    /// What a job on it tells of its end.
    pub fn outputs(&self, kind: &str, model: Value, parameters: Value) -> Value {
        json!({
            "model": model,
            "kind": kind,
            "features": self.features,
            "label": self.label,
            "parameters": parameters,
        })
    }

    /// Both splits.
    pub fn read(&self, session: &dyn Session) -> Result<[Rows; 2], JobError> {
        let read = |split: &str| {
            let key = self.dataset.key(&format!("{split}.parquet"));
            let file = session.download(&self.dataset.bucket, &key)?;
            Rows::read(split, file, self)
        };
        Ok([read("train")?, read("validation")?])
    }
}

/// The rows of one split.
#[derive(Debug, Default)]
pub struct Rows {
    /// Features, row by row.
    pub features: Column<f32>,
    /// Labels, 0 or 1.
    pub labels: Column<f32>,
    /// Features of a row.
    pub width: usize,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The features of a row.
    pub fn row(&self, at: usize) -> &[f32] {
        self.features
            .get(at * self.width..(at + 1) * self.width)
            .unwrap_or(&[])
    }

    /// So many rows, all zeroes; the error says what could not be had for them.
    fn sized(rows: usize, width: usize) -> Result<Self, String> {
        Ok(Self {
            features: Column::zeroed(rows.saturating_mul(width))?,
            labels: Column::zeroed(rows)?,
            width,
        })
    }

    /// Reads and checks a split.
    pub fn read(split: &str, file: File, source: &Source) -> Result<Self, JobError> {
        let wrong = |reason: String| JobError::Invalid(format!("`{split}.parquet` {reason}"));
        let unreadable = |reason: String| wrong(format!("cannot be read: {reason}"));
        let reader = SerializedFileReader::new(file).map_err(|error| unreadable(error.to_string()))?;
        let metadata = reader.metadata().file_metadata();
        let present: Vec<String> = metadata
            .schema_descr()
            .columns()
            .iter()
            .map(|column| column.path().parts().join("."))
            .collect();
        let indices = find(&present, source).map_err(wrong)?;
        let width = source.features.len();
        let found = groups(reader.metadata());
        let mut rows = Self::sized(found.last().map_or(0, |group| group.end), width)
            .map_err(|reason| JobError::OutOfMemory(format!("`{split}.parquet` {reason}")))?;
        for (group, at) in found.into_iter().enumerate() {
            let group = reader
                .get_row_group(group)
                .map_err(|error| unreadable(error.to_string()))?;
            let column = |index: usize| {
                let reader = group.get_column_reader(index).map_err(|error| error.to_string());
                let read = reader.and_then(|reader| read_floats(reader, at.len()));
                read.map_err(|error| wrong(format!("column `{}` {error}", present[index])))
            };
            scatter(column(indices.label)?, &mut rows.labels[at.clone()], 0, 1);
            let into = &mut rows.features[at.start * width..at.end * width];
            for (offset, &index) in indices.features.iter().enumerate() {
                scatter(column(index)?, into, offset, width);
            }
        }
        rows.check(source).map_err(wrong)?;
        Ok(rows)
    }

    /// Refuses what training must not see, naming the first offender.
    fn check(&self, source: &Source) -> Result<(), String> {
        let (label, rows) = (&source.label, self.len());
        if let Some(at) = self.labels.iter().position(|&label| label != 0.0 && label != 1.0) {
            let found = self.labels[at];
            return Err(format!(
                "has {found} in column `{label}`, row {at}; allowed are 0 and 1"
            ));
        }
        if let Some(at) = self.features.iter().position(|value| !value.is_finite()) {
            let (row, column) = (at / self.width, at % self.width);
            let (found, name) = (self.features[at], &source.features[column]);
            return Err(format!(
                "has {found} in column `{name}`, row {row}; only finite numbers are allowed"
            ));
        }
        let positives = self.labels.iter().filter(|&&label| label == 1.0).count();
        if positives == 0 || positives == rows {
            return Err(format!(
                "has {positives} rows with `{label}` 1 among {rows}, both classes are needed"
            ));
        }
        Ok(())
    }
}

/// Where the columns are in a file.
struct Indices {
    label: usize,
    features: Vec<usize>,
}

/// Finds every column, or tells all that are missing.
fn find(present: &[String], source: &Source) -> Result<Indices, String> {
    let mut missing = Vec::new();
    let mut find = |name: &str| {
        let found = present.iter().position(|found| found == name);
        found.unwrap_or_else(|| {
            missing.push(name.to_owned());
            0
        })
    };
    let indices = Indices {
        label: find(&source.label),
        features: source.features.iter().map(|name| find(name)).collect(),
    };
    if missing.is_empty() {
        return Ok(indices);
    }
    Err(format!(
        "lacks column(s) `{}`; found `{}`",
        missing.join("`, `"),
        present.join("`, `")
    ))
}
