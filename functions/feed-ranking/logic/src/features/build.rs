//! The pass over a whole dataset: partitions in, three parts and their description out.

use std::collections::BTreeMap;
use std::io::Write;

use super::training::{Manifest, MeanStd, Normalisation, PartRows, TrainingWriter};
use super::{Categories, Engine, Example, Row, item_feature_names, user_feature_names};
use crate::digest::HashingWriter;
use crate::messages::DataFile;
use crate::table::{Interactions, Item, TableError};

/// Where the train part ends and where the validation part ends, in hundredths of the rows.
const CUTS: [u64; 2] = [70, 85];
/// A feature that varies less than this is not scaled.
const CONSTANT: f64 = 1e-6;

/// A part of the time line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first 70 %.
    Train,
    /// The next 15 %.
    Validation,
    /// The last 15 %.
    Test,
}

impl Part {
    /// Every part, in the order of time.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The part of the row at `position` of `total`.
    fn at(position: u64, total: u64) -> Self {
        let [train, validation] = CUTS.map(|cut| total.saturating_mul(cut) / 100);
        if position < train {
            Self::Train
        } else if position < validation {
            Self::Validation
        } else {
            Self::Test
        }
    }
}

/// Where each part goes.
pub struct Sinks<W> {
    /// The train part.
    pub train: W,
    /// The validation part.
    pub validation: W,
    /// The test part.
    pub test: W,
}

/// Why there is no training set.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The files do not follow each other in time.
    #[error("partition `{partition}` begins at {found}, before {last}, where the one before it ends")]
    Order {
        /// The partition.
        partition: String,
        /// Its first timestamp.
        found: i64,
        /// The last timestamp before it.
        last: i64,
    },
    /// A part has no rows.
    #[error(
        "{labelled} rows with a click column are too few: train, validation and test need one timestamp each"
    )]
    TooFew {
        /// Rows that could be used.
        labelled: u64,
    },
}

/// Files grouped by their folder, which stands for a stretch of time, in order.
pub fn partitions(files: &[DataFile]) -> BTreeMap<&str, Vec<&DataFile>> {
    let mut partitions = BTreeMap::<&str, Vec<&DataFile>>::new();
    for file in files {
        let folder = file.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        partitions.entry(folder).or_default().push(file);
    }
    partitions
        .values_mut()
        .for_each(|files| files.sort_by(|a, b| a.key.cmp(&b.key)));
    partitions
}

/// A training set in the making. Memory: one partition's rows, one row group of each part, and the states.
pub struct Build<W: Write + Send> {
    categories: Categories,
    engine: Engine,
    output: Output<W>,
    total: u64,
    /// Rows of the partitions before this one.
    passed: u64,
    /// Rows without a label.
    unlabelled: u64,
    last: i64,
}

/// A finished training set.
pub struct Built<W> {
    /// The sinks, all written.
    pub sinks: Sinks<W>,
    /// Its description.
    pub manifest: Manifest,
    /// What is remembered at its end: the online features.
    pub engine: Engine,
    /// Rows left out because it is not known whether they were clicks.
    pub unlabelled: u64,
}

impl<W: Write + Send> Build<W> {
    /// Begins a training set of a dataset of `total` rows.
    pub fn new(total: u64, catalog: &[Item], sinks: Sinks<W>) -> Result<Self, BuildError> {
        let categories = Categories::of_catalog(catalog);
        Ok(Self {
            engine: Engine::new(catalog, &categories),
            output: Output::new(&categories, sinks)?,
            categories,
            total,
            passed: 0,
            unlabelled: 0,
            last: i64::MIN,
        })
    }

    /// Reduces a batch to what a partition needs to keep of it.
    pub fn reduce(&self, batch: &Interactions, to: &mut Vec<Row>) {
        to.extend(batch.rows().filter_map(|row| Row::new(&row, &self.categories)));
    }

    /// Takes all rows of the next partition, in any order; `read` is how many were read, with or without label.
    pub fn partition(&mut self, name: &str, mut rows: Vec<Row>, read: u64) -> Result<(), BuildError> {
        rows.sort_by_key(Row::order);
        let found = rows.first().map_or(i64::MAX, |row| row.timestamp);
        if found < self.last {
            return Err(BuildError::Order {
                partition: name.to_owned(),
                found,
                last: self.last,
            });
        }
        let mut position = self.passed;
        for ties in rows.chunk_by(|a, b| a.timestamp == b.timestamp) {
            let part = Part::at(position, self.total);
            self.engine
                .step(ties, |example| self.output.push(part, example))?;
            position += ties.len() as u64;
            self.last = ties.first().map_or(self.last, |row| row.timestamp);
        }
        self.unlabelled += read.saturating_sub(rows.len() as u64);
        self.passed += read;
        Ok(())
    }

    /// Ends the files.
    pub fn finish(self, dataset: &str) -> Result<Built<W>, BuildError> {
        let user_features = user_feature_names(&self.categories);
        let item_features = item_feature_names(&self.categories);
        let normalisation = self.output.normalisation.fit();
        let (sinks, rows, files) = self.output.finish()?;
        if rows.train == 0 || rows.validation == 0 || rows.test == 0 {
            return Err(BuildError::TooFew {
                labelled: rows.train + rows.validation + rows.test,
            });
        }
        let manifest = Manifest {
            dataset: dataset.to_owned(),
            label: "click".to_owned(),
            user_features,
            item_features,
            normalisation,
            rows,
            code: super::code_digest(),
            digest: Manifest::digest_of(&files),
            files,
        };
        Ok(Built {
            sinks,
            manifest,
            engine: self.engine,
            unlabelled: self.unlabelled,
        })
    }
}

/// The sinks, the rows in each, and the hash of each by its file's name.
type Finished<W> = (Sinks<W>, PartRows, BTreeMap<String, String>);

/// The three files, and the normalisation that the first of them determines.
struct Output<W: Write + Send> {
    train: TrainingWriter<HashingWriter<W>>,
    validation: TrainingWriter<HashingWriter<W>>,
    test: TrainingWriter<HashingWriter<W>>,
    normalisation: Fit,
}

impl<W: Write + Send> Output<W> {
    fn new(categories: &Categories, sinks: Sinks<W>) -> Result<Self, TableError> {
        let (user, item) = (user_feature_names(categories), item_feature_names(categories));
        let begin = |sink| TrainingWriter::new(HashingWriter::new(sink), &user, &item);
        Ok(Self {
            train: begin(sinks.train)?,
            validation: begin(sinks.validation)?,
            test: begin(sinks.test)?,
            normalisation: Fit::new(user.len(), item.len()),
        })
    }

    fn push(&mut self, part: Part, example: &Example) -> Result<(), TableError> {
        match part {
            Part::Train => {
                self.normalisation.add(example);
                self.train.push(example)
            }
            Part::Validation => self.validation.push(example),
            Part::Test => self.test.push(example),
        }
    }

    fn finish(self) -> Result<Finished<W>, TableError> {
        let mut files = BTreeMap::new();
        let mut end = |part: Part, writer: TrainingWriter<HashingWriter<W>>| {
            let (sink, rows) = writer.finish()?;
            let (sink, hash) = sink.finish();
            files.insert(part.file().to_owned(), hash);
            Ok::<_, TableError>((sink, rows))
        };
        let (train, train_rows) = end(Part::Train, self.train)?;
        let (validation, validation_rows) = end(Part::Validation, self.validation)?;
        let (test, test_rows) = end(Part::Test, self.test)?;
        let rows = PartRows {
            train: train_rows,
            validation: validation_rows,
            test: test_rows,
        };
        Ok((
            Sinks {
                train,
                validation,
                test,
            },
            rows,
            files,
        ))
    }
}

/// Welford's running mean and variance of every feature.
struct Fit {
    count: f64,
    user: Vec<Moments>,
    item: Vec<Moments>,
}

#[derive(Clone, Copy, Default)]
struct Moments {
    mean: f64,
    squares: f64,
}

impl Fit {
    fn new(user: usize, item: usize) -> Self {
        Self {
            count: 0.0,
            user: vec![Moments::default(); user],
            item: vec![Moments::default(); item],
        }
    }

    fn add(&mut self, example: &Example) {
        self.count += 1.0;
        for (moments, value) in self.user.iter_mut().zip(&example.user) {
            moments.add(f64::from(*value), self.count);
        }
        for (moments, value) in self.item.iter_mut().zip(&example.item) {
            moments.add(f64::from(*value), self.count);
        }
    }

    fn fit(&self) -> Normalisation {
        let side = |all: &[Moments]| MeanStd {
            mean: all.iter().map(|moments| moments.mean).collect(),
            std: all.iter().map(|moments| moments.std(self.count)).collect(),
        };
        Normalisation {
            user: side(&self.user),
            item: side(&self.item),
        }
    }
}

impl Moments {
    fn add(&mut self, value: f64, count: f64) {
        let from_mean = value - self.mean;
        self.mean += from_mean / count;
        self.squares += from_mean * (value - self.mean);
    }

    fn std(&self, count: f64) -> f64 {
        let std = (self.squares / count.max(1.0)).sqrt();
        if std < CONSTANT { 1.0 } else { std }
    }
}
