//! Generate: interactions as a feed would log them, the same for the same seed.
//!
//! Users fall into clusters with tastes and habits, items into categories with a few favourites and a long
//! tail. Rows are in order of time and are made one after another, so any number of them fits in memory.

mod plan;
mod text;
mod world;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::messages::GenerateRequested;
use crate::table::{Interaction, Interactions, InteractionsWriter, Stage, TableError};

pub use text::Format;

use plan::Hours;
use world::{Sample, World};

/// Rows of a Parquet row group, and between two words of progress.
const BATCH: u64 = 65_536;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Users, numbered from 0.
    pub users: u32,
    /// Items, numbered from 0.
    pub items: u32,
    /// Rows.
    pub interactions: u64,
    /// Days that the rows span.
    pub days: u32,
    /// The same seed gives the same rows.
    pub seed: u64,
    /// How they are written.
    pub format: Format,
}

impl Settings {
    /// Reads the function's variables; what the event says goes before them.
    pub fn new(
        request: &GenerateRequested,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let number = |name: &str, given: Option<u64>, default: u64, most: u64| {
            let text = variable(name);
            let set = text.as_deref().map(|text| {
                text.trim()
                    .parse()
                    .map_err(|_| format!("`{name}` is `{text}`, allowed is a number up to {most}"))
            });
            let value = match given {
                Some(value) => value,
                None => set.transpose()?.unwrap_or(default),
            };
            let known = value <= most && (value > 0 || name == "seed");
            if known {
                Ok(value)
            } else {
                Err(format!("`{name}` is {value}, allowed are 1 to {most}"))
            }
        };
        let format = request.format.clone().or_else(|| variable("format"));
        Ok(Self {
            users: number("users", request.users.map(u64::from), 10_000, 1_000_000)? as u32,
            items: number("items", request.items.map(u64::from), 50_000, 1_000_000)? as u32,
            interactions: number("interactions", request.interactions, 200_000, 100_000_000)?,
            days: number("days", request.days.map(u64::from), 30, 3_660)? as u32,
            seed: number("seed", request.seed, 42, u64::MAX)?,
            format: Format::parse(format.as_deref().unwrap_or("csv"))?,
        })
    }

    /// The object that the rows go to.
    pub fn key(&self) -> String {
        format!("raw/interactions-{}.{}", self.seed, self.format.suffix())
    }
}

/// The rows, one after another.
pub struct Rows {
    world: World,
    hours: Hours,
    rng: StdRng,
}

impl Rows {
    /// Prepares users and items.
    pub fn new(settings: &Settings) -> Self {
        let mut rng = StdRng::seed_from_u64(settings.seed);
        let world = World::new(settings.users, settings.items, &mut rng);
        Self {
            world,
            hours: Hours::new(settings.days, settings.interactions),
            rng,
        }
    }

    /// The next row and the probability of its click; none at the end.
    fn next(&mut self) -> Option<Sample> {
        let time = self.hours.next(&mut self.rng)?;
        Some(self.world.sample(time, &mut self.rng))
    }
}

/// Writes all rows to the stage and returns the key.
pub fn generate<T: Stage>(settings: &Settings, stage: &mut T) -> Result<String, TableError> {
    let key = settings.key();
    let sink = stage.create(&key)?;
    let rows = Rows::new(settings);
    let sink = match settings.format {
        Format::Parquet => parquet(rows, settings, sink, stage)?,
        format => lines(rows, settings, format, sink, stage)?,
    };
    stage.progress(settings.interactions, settings.interactions, "rows");
    stage.finish(sink)?;
    Ok(key)
}

fn lines<T: Stage>(
    mut rows: Rows,
    settings: &Settings,
    format: Format,
    mut sink: T::Sink,
    stage: &mut T,
) -> io::Result<T::Sink> {
    sink.write_all(format.header())?;
    let (mut buffer, mut done) = (Vec::new(), 0);
    while let Some(sample) = rows.next() {
        format.write(&sample.row(), &mut buffer)?;
        done += 1;
        if done % BATCH == 0 {
            sink.write_all(&buffer)?;
            buffer.clear();
            stage.progress(done, settings.interactions, "rows");
        }
    }
    sink.write_all(&buffer)?;
    Ok(sink)
}

fn parquet<T: Stage>(
    mut rows: Rows,
    settings: &Settings,
    sink: T::Sink,
    stage: &mut T,
) -> Result<T::Sink, TableError> {
    let mut writer = InteractionsWriter::new(sink)?;
    loop {
        let mut batch = Interactions::default();
        while let Some(sample) = rows.next() {
            batch.push(&sample.row());
            if batch.len() as u64 == BATCH {
                break;
            }
        }
        if batch.is_empty() {
            return writer.finish();
        }
        writer.write(&batch)?;
        stage.progress(writer.rows(), settings.interactions, "rows");
    }
}

impl Sample {
    /// The row as the feed would log it.
    fn row(&self) -> Interaction<'static> {
        Interaction {
            user_id: self.user.into(),
            item_id: self.item.into(),
            timestamp: self.time,
            click: Some(self.click.into()),
            like: Some(self.like.into()),
            share: Some(self.share.into()),
            dwell_seconds: Some(self.dwell_seconds),
            rating: None,
            device: Some(self.device),
            category: Some(self.category),
        }
    }
}
