//! Rows into files by date, with memory that is flat in the number of rows.
//!
//! Every partition gathers rows in a batch. A batch that is full becomes a row group of its partition's file;
//! when all batches together are too large, the largest does. Few files are open at a time: the one that was
//! used least recently makes way, and its partition goes on in another part.

use chrono::{DateTime, Datelike, NaiveDate};

use super::IngestError;
use crate::messages::DataFile;
use crate::table::{FastMap, Interaction, Interactions, InteractionsWriter, Stage};

/// Rows of a row group.
const GROUP: usize = 131_072;
/// Rows in all batches together.
const BUFFERED: usize = 524_288;
/// Files open at a time.
const OPEN: usize = 64;
/// Partitions of a dataset.
const PARTITIONS: usize = 1024;
/// Partitions that `auto` aims to stay under.
const AUTO: i64 = 64;
const DAY: i64 = 86_400;

/// How rows are laid out by date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// The finest that stays under 64 partitions.
    Auto,
    /// `date=2026-11-21`
    Day,
    /// `date=2026-11`
    Month,
    /// `date=2026`
    Year,
}

impl Partitioning {
    /// Parses the variable `partition`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            "year" => Ok(Self::Year),
            other => Err(format!(
                "the variable `partition` is `{other}`, allowed are `auto`, `day`, `month` and `year`"
            )),
        }
    }

    /// What `auto` stands for where the rows are within `span`.
    fn resolve(self, span: Option<Span>) -> Self {
        match (self, span) {
            (Self::Auto, None) => Self::Month,
            (Self::Auto, Some(span)) => {
                let fits = |grain: Self| grain.number(span.last) - grain.number(span.first) < AUTO;
                [Self::Day, Self::Month]
                    .into_iter()
                    .find(|grain| fits(*grain))
                    .unwrap_or(Self::Year)
            }
            (other, _) => other,
        }
    }

    /// The number of the partition that a time is in.
    fn number(self, time: i64) -> i64 {
        let date = date(time);
        match self {
            Self::Year => date.year().into(),
            Self::Month => i64::from(date.year()) * 12 + i64::from(date.month0()),
            Self::Day | Self::Auto => time.div_euclid(DAY),
        }
    }

    fn name(self, time: i64) -> String {
        let form = match self {
            Self::Year => "%Y",
            Self::Month => "%Y-%m",
            Self::Day | Self::Auto => "%Y-%m-%d",
        };
        date(time).format(form).to_string()
    }
}

fn date(time: i64) -> NaiveDate {
    DateTime::from_timestamp(time, 0).map_or(NaiveDate::MIN, |time| time.date_naive())
}

/// The first and last time of some rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Span {
    /// Makes the span include `time`.
    pub(super) fn extend(span: &mut Option<Self>, time: i64) {
        let now = span.unwrap_or(Self {
            first: time,
            last: time,
        });
        *span = Some(Self {
            first: now.first.min(time),
            last: now.last.max(time),
        });
    }
}

struct Partition<T: Stage> {
    name: String,
    batch: Interactions,
    file: Option<(String, InteractionsWriter<T::Sink>)>,
    parts: usize,
    used: u64,
}

/// Writes rows into files by date.
pub(super) struct PartitionedWriter<T: Stage> {
    prefix: String,
    grain: Partitioning,
    partitions: Vec<Partition<T>>,
    places: FastMap<i64, usize>,
    latest: (i64, usize),
    buffered: usize,
    open: usize,
    clock: u64,
    files: Vec<DataFile>,
}

impl<T: Stage> PartitionedWriter<T> {
    /// Files will be `<prefix>date=<date>/part-000.parquet`.
    pub(super) fn new(prefix: String, partitioning: Partitioning, span: Option<Span>) -> Self {
        Self {
            prefix,
            grain: partitioning.resolve(span),
            partitions: Vec::new(),
            places: FastMap::default(),
            latest: (i64::MIN, 0),
            buffered: 0,
            open: 0,
            clock: 0,
            files: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: &Interaction<'_>, stage: &mut T) -> Result<(), IngestError> {
        let place = self.place(row.timestamp)?;
        let Some(partition) = self.partitions.get_mut(place) else {
            return Ok(());
        };
        partition.batch.push(row);
        self.buffered += 1;
        if partition.batch.len() >= GROUP {
            return self.spill(place, stage);
        }
        if self.buffered >= BUFFERED {
            let sizes = self
                .partitions
                .iter()
                .map(|partition| partition.batch.len())
                .enumerate();
            let largest = sizes.max_by_key(|(_, rows)| *rows).map_or(0, |(place, _)| place);
            return self.spill(largest, stage);
        }
        Ok(())
    }

    /// Completes all files.
    pub(super) fn finish(mut self, stage: &mut T) -> Result<Vec<DataFile>, IngestError> {
        for place in 0..self.partitions.len() {
            self.spill(place, stage)?;
            self.close(place, stage)?;
        }
        self.files.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(self.files)
    }

    /// The place of the partition that a time is in; rows of one day often follow each other.
    fn place(&mut self, time: i64) -> Result<usize, IngestError> {
        let day = time.div_euclid(DAY);
        if self.latest.0 == day {
            return Ok(self.latest.1);
        }
        let number = self.grain.number(time);
        let place = match self.places.get(&number) {
            Some(place) => *place,
            None => self.add(number, time)?,
        };
        self.latest = (day, place);
        Ok(place)
    }

    fn add(&mut self, number: i64, time: i64) -> Result<usize, IngestError> {
        let place = self.partitions.len();
        if place >= PARTITIONS {
            return Err(IngestError::Rejected(format!(
                "the rows span more than {PARTITIONS} partitions: set the variable `partition` to `month` or `year`"
            )));
        }
        let (name, batch) = (self.grain.name(time), Interactions::default());
        self.partitions.push(Partition {
            name,
            batch,
            file: None,
            parts: 0,
            used: 0,
        });
        self.places.insert(number, place);
        Ok(place)
    }

    /// Writes a partition's batch as a row group.
    fn spill(&mut self, place: usize, stage: &mut T) -> Result<(), IngestError> {
        self.clock += 1;
        if self
            .partitions
            .get(place)
            .is_some_and(|partition| partition.file.is_none())
        {
            self.make_way(stage)?;
        }
        let Some(partition) = self.partitions.get_mut(place) else {
            return Ok(());
        };
        if partition.batch.is_empty() {
            return Ok(());
        }
        if partition.file.is_none() {
            let (prefix, name, part) = (&self.prefix, &partition.name, partition.parts);
            let key = format!("{prefix}date={name}/part-{part:03}.parquet");
            let sink = stage.create(&key)?;
            partition.file = Some((key, InteractionsWriter::new(sink)?));
            partition.parts += 1;
            self.open += 1;
        }
        let batch = std::mem::take(&mut partition.batch);
        partition.used = self.clock;
        self.buffered -= batch.len();
        match &mut partition.file {
            Some((_, writer)) => Ok(writer.write(&batch)?),
            None => Ok(()),
        }
    }

    /// Closes the file that was used least recently where too many are open.
    fn make_way(&mut self, stage: &mut T) -> Result<(), IngestError> {
        if self.open < OPEN {
            return Ok(());
        }
        let open = self
            .partitions
            .iter()
            .enumerate()
            .filter(|(_, partition)| partition.file.is_some());
        match open
            .min_by_key(|(_, partition)| partition.used)
            .map(|(place, _)| place)
        {
            Some(oldest) => self.close(oldest, stage),
            None => Ok(()),
        }
    }

    fn close(&mut self, place: usize, stage: &mut T) -> Result<(), IngestError> {
        let Some((key, writer)) = self
            .partitions
            .get_mut(place)
            .and_then(|partition| partition.file.take())
        else {
            return Ok(());
        };
        self.open -= 1;
        self.files.push(DataFile {
            key,
            rows: writer.rows(),
        });
        Ok(stage.finish(writer.finish()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::MemoryStage;

    #[test]
    fn auto_takes_the_finest_layout_under_64_partitions() {
        let grain = |days: i64| {
            let first = 1_700_000_000;
            Partitioning::Auto.resolve(Some(Span {
                first,
                last: first + days * DAY,
            }))
        };
        assert_eq!(
            [grain(0), grain(63), grain(64), grain(1900), grain(2200)],
            [
                Partitioning::Day,
                Partitioning::Day,
                Partitioning::Month,
                Partitioning::Month,
                Partitioning::Year
            ]
        );
    }

    #[test]
    fn a_partition_whose_file_made_way_goes_on_in_another_part() {
        let mut stage = MemoryStage::default();
        let mut writer = PartitionedWriter::new("staging/x/".into(), Partitioning::Day, None);
        for round in 0..2 {
            for day in 0..OPEN as i64 + 6 {
                let row = Interaction {
                    timestamp: day * DAY + round,
                    ..Interaction::default()
                };
                writer.push(&row, &mut stage).unwrap();
                let place = writer.place(row.timestamp).unwrap();
                writer.spill(place, &mut stage).unwrap();
            }
        }
        assert!(writer.open <= OPEN);
        let files = writer.finish(&mut stage).unwrap();
        assert_eq!(
            files.iter().map(|file| file.rows).sum::<u64>(),
            2 * (OPEN as u64 + 6)
        );
        assert_eq!(files.len(), stage.objects.len());
        assert!(
            stage
                .objects
                .contains_key("staging/x/date=1970-01-01/part-001.parquet")
        );
    }

    #[test]
    fn too_many_partitions_are_an_error_that_says_what_to_do() {
        let mut writer = PartitionedWriter::<MemoryStage>::new("x/".into(), Partitioning::Day, None);
        let mut push = |day| {
            writer.push(
                &Interaction {
                    timestamp: day * DAY,
                    ..Interaction::default()
                },
                &mut MemoryStage::default(),
            )
        };
        for day in 0..PARTITIONS as i64 {
            push(day).unwrap();
        }
        assert!(
            push(PARTITIONS as i64)
                .unwrap_err()
                .to_string()
                .contains("`partition`")
        );
    }
}
