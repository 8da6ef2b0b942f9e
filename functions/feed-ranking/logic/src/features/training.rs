//! The training set: three Parquet files, and `dataset.json` that describes them.
//!
//! Columns: `user_id`, `item_id`, `timestamp` (INT64), `label` (FLOAT), then a FLOAT column `user.<name>` for each
//! user feature and `item.<name>` for each item feature. Values are as computed; the normalisation that was
//! fitted on the train part stands in `dataset.json` and is applied inside the model.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as PhysicalType};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{DataType, FloatType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use serde::{Deserialize, Serialize};
use tidegate_ml::registry::Signature;

use super::{Example, ITEM_FEATURES, Part, USER_FEATURES};
use crate::table::{Chunks, Source, TableError};

/// Rows of a row group.
pub const GROUP: usize = 8192;
/// The bucket of the training sets.
pub const BUCKET: &str = "data";
/// The file that describes a training set.
pub const MANIFEST: &str = "dataset.json";
/// Columns before the features.
const KEYS: [&str; 3] = ["user_id", "item_id", "timestamp"];
const LABEL: &str = "label";

/// The prefix of a dataset's training set.
pub fn prefix(dataset: &str) -> String {
    format!("features/{dataset}/")
}

/// `dataset.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The dataset's id.
    pub dataset: String,
    /// What the label stands for.
    pub label: String,
    /// Names of the user features, in order.
    pub user_features: Vec<String>,
    /// Names of the item features, in order.
    pub item_features: Vec<String>,
    /// What the model subtracts and divides by.
    pub normalisation: Normalisation,
    /// Rows of each part.
    pub rows: PartRows,
    /// SHA-256 of each file, by its name.
    pub files: BTreeMap<String, String>,
    /// SHA-256 of the source of the code that computed the features.
    pub code: String,
    /// SHA-256 of the lines `<sha256>  <file>` of `files`, as `sha256sum` prints them.
    pub digest: String,
}

/// The normalisation of both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Of the user features.
    pub user: MeanStd,
    /// Of the item features.
    pub item: MeanStd,
}

/// Mean and standard deviation of each feature over the train part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeanStd {
    /// Means.
    pub mean: Vec<f64>,
    /// Standard deviations; 1 where a feature does not vary.
    pub std: Vec<f64>,
}

/// Rows of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRows {
    /// The first 70 % of the time line.
    pub train: u64,
    /// The next 15 %.
    pub validation: u64,
    /// The last 15 %.
    pub test: u64,
}

impl Manifest {
    /// What a model trained on this set takes.
    pub fn signature(&self) -> Signature {
        Signature {
            user_features: self.user_features.clone(),
            item_features: self.item_features.clone(),
            ..Signature::default()
        }
    }

    /// The digest of these files.
    pub fn digest_of(files: &BTreeMap<String, String>) -> String {
        let lines: String = files
            .iter()
            .map(|(name, hash)| format!("{hash}  {name}\n"))
            .collect();
        crate::digest::sha256_hex(lines.as_bytes())
    }
}

/// `FeaturesReady`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeaturesReady {
    /// The dataset's id.
    pub dataset: String,
    /// The prefix of the training set in the bucket `data`.
    pub prefix: String,
    /// Rows of each part.
    pub rows: PartRows,
}

/// Writes one part.
pub struct TrainingWriter<W: Write + Send> {
    inner: SerializedFileWriter<W>,
    rows: Vec<Example>,
    written: u64,
}

impl<W: Write + Send> TrainingWriter<W> {
    /// Begins a file with these feature names.
    pub fn new(sink: W, user: &[String], item: &[String]) -> Result<Self, TableError> {
        let inner = SerializedFileWriter::new(sink, schema(user, item)?, properties(user, item))?;
        Ok(Self {
            inner,
            rows: Vec::with_capacity(GROUP),
            written: 0,
        })
    }

    /// Appends a row.
    pub fn push(&mut self, row: &Example) -> Result<(), TableError> {
        self.rows.push(*row);
        self.written += 1;
        if self.rows.len() >= GROUP {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), TableError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = &self.rows;
        let mut group = self.inner.next_row_group()?;
        for key in [
            |row: &Example| row.user_id,
            |row: &Example| row.item_id,
            |row: &Example| row.timestamp,
        ] {
            column::<Int64Type>(&mut group, rows.iter().map(key).collect())?;
        }
        column::<FloatType>(&mut group, rows.iter().map(|row| row.label).collect())?;
        for feature in 0..USER_FEATURES {
            column::<FloatType>(&mut group, rows.iter().map(|row| row.user[feature]).collect())?;
        }
        for feature in 0..ITEM_FEATURES {
            column::<FloatType>(&mut group, rows.iter().map(|row| row.item[feature]).collect())?;
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }

    /// Writes the footer and gives the sink and the number of rows back.
    pub fn finish(mut self) -> Result<(W, u64), TableError> {
        self.flush()?;
        Ok((self.inner.into_inner()?, self.written))
    }
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: Vec<T::T>,
) -> Result<(), TableError> {
    let missing = || TableError::Schema("the training set has more columns than its schema".into());
    let mut writer = group.next_column()?.ok_or_else(missing)?;
    writer.typed::<T>().write_batch(&values, None, None)?;
    Ok(writer.close()?)
}

fn schema(user: &[String], item: &[String]) -> Result<TypePtr, TableError> {
    let required = |name: &str, physical| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .build()
            .map(Arc::new)
    };
    let mut fields = Vec::new();
    for key in KEYS {
        fields.push(required(key, PhysicalType::INT64)?);
    }
    fields.push(required(LABEL, PhysicalType::FLOAT)?);
    for name in feature_columns(user, item) {
        fields.push(required(&name, PhysicalType::FLOAT)?);
    }
    Ok(Arc::new(
        Type::group_type_builder("examples").with_fields(fields).build()?,
    ))
}

fn feature_columns(user: &[String], item: &[String]) -> impl Iterator<Item = String> {
    let user = user.iter().map(|name| format!("user.{name}"));
    user.chain(item.iter().map(|name| format!("item.{name}")))
}

/// Snappy, and a dictionary only for columns of few values.
fn properties(user: &[String], item: &[String]) -> WriterPropertiesPtr {
    let few = [
        "label",
        "user.known",
        "item.known",
        "user.device_",
        "item.category_",
    ];
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false);
    for name in [LABEL.to_owned()].into_iter().chain(feature_columns(user, item)) {
        if few.iter().any(|few| name.starts_with(few)) {
            builder = builder.set_column_dictionary_enabled(ColumnPath::new(vec![name]), true);
        }
    }
    Arc::new(builder.build())
}

/// Rows of a part, as a model takes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Who.
    pub user_id: Vec<i64>,
    /// Saw what.
    pub item_id: Vec<i64>,
    /// 1 for a click.
    pub label: Vec<f32>,
    /// User features, row-major.
    pub user: Vec<f32>,
    /// Item features, row-major.
    pub item: Vec<f32>,
}

/// Reads a part, a row group at a time.
pub struct TrainingReader<S: Source + ?Sized> {
    file: SerializedFileReader<Chunks<S>>,
    user_features: usize,
    item_features: usize,
    group: usize,
}

impl<S: Source + ?Sized + 'static> TrainingReader<S> {
    /// Opens a part that must have exactly the columns of this signature.
    pub fn open(source: Arc<S>, signature: &Signature) -> Result<Self, TableError> {
        let file = SerializedFileReader::new(Chunks(source))?;
        let columns = file.metadata().file_metadata().schema_descr();
        let found: Vec<&str> = columns.columns().iter().map(|column| column.name()).collect();
        let keys = KEYS.into_iter().chain([LABEL]).map(str::to_owned);
        let wanted: Vec<String> = keys
            .chain(feature_columns(
                &signature.user_features,
                &signature.item_features,
            ))
            .collect();
        if found != wanted {
            let odd = wanted.iter().zip(&found).find(|(wanted, found)| wanted != found);
            let (wanted, found) = odd.map_or(("", ""), |(wanted, found)| (wanted.as_str(), *found));
            return Err(TableError::Schema(format!(
                "the training set's columns are not those of `{MANIFEST}`: found `{found}`, wanted is `{wanted}`"
            )));
        }
        let (user_features, item_features) = (signature.user_features.len(), signature.item_features.len());
        Ok(Self {
            file,
            user_features,
            item_features,
            group: 0,
        })
    }

    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.file
            .metadata()
            .file_metadata()
            .num_rows()
            .try_into()
            .unwrap_or(0)
    }

    /// The next row group; none at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, TableError> {
        if self.group >= self.file.num_row_groups() {
            return Ok(None);
        }
        let group = self.file.get_row_group(self.group)?;
        self.group += 1;
        let first_item = KEYS.len() + 1 + self.user_features;
        Ok(Some(Batch {
            user_id: read::<Int64Type>(group.as_ref(), 0)?,
            item_id: read::<Int64Type>(group.as_ref(), 1)?,
            label: read::<FloatType>(group.as_ref(), KEYS.len())?,
            user: row_major(group.as_ref(), KEYS.len() + 1, self.user_features)?,
            item: row_major(group.as_ref(), first_item, self.item_features)?,
        }))
    }
}

fn read<T: DataType>(group: &dyn RowGroupReader, index: usize) -> Result<Vec<T::T>, TableError> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let found = group.metadata().column(index).column_type();
    if found != T::get_physical_type() {
        return Err(TableError::Schema(format!(
            "column {index} of the training set is of type `{found}`"
        )));
    }
    let mut reader: ColumnReaderImpl<T> = get_typed_column_reader(group.get_column_reader(index)?);
    let mut values = Vec::new();
    reader.read_records(rows, None, None, &mut values)?;
    if values.len() == rows {
        Ok(values)
    } else {
        let found = values.len();
        Err(TableError::Parquet(format!(
            "column {index} holds {found} of {rows} values"
        )))
    }
}

fn row_major(group: &dyn RowGroupReader, first: usize, width: usize) -> Result<Vec<f32>, TableError> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut values = vec![0.0; rows * width];
    for feature in 0..width {
        let column = read::<FloatType>(group, first + feature)?;
        for (slot, value) in values.iter_mut().skip(feature).step_by(width).zip(column) {
            *slot = value;
        }
    }
    Ok(values)
}

impl Part {
    /// The part's file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Train => "train.parquet",
            Self::Validation => "validation.parquet",
            Self::Test => "test.parquet",
        }
    }
}
