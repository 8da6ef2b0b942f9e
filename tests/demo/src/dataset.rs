//! The data of a run: generated here, or MovieLens files taken as they are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::HumanCount;
use tempfile::TempDir;

use crate::generated;
use crate::screen::Screen;

/// As many candidates are ranked at the end.
const CANDIDATES: usize = 20;

/// Files to upload, and whom to ask about afterwards.
#[derive(Debug)]
pub struct Dataset {
    /// The item catalogue, to go first.
    pub catalog: Option<PathBuf>,
    /// The interactions.
    pub interactions: PathBuf,
    /// A user of the data.
    pub user: i64,
    /// Items of the data, the most popular ones.
    pub items: Vec<i64>,
    /// What items are called.
    pub titles: HashMap<i64, String>,
    // Held for its removal at the end.
    _scratch: Option<TempDir>,
}

impl Dataset {
    /// Generates interactions into a temporary file.
    pub fn generate(rows: u64, screen: &Screen) -> Result<Self> {
        let started = Instant::now();
        let step = screen.step("data");
        let scratch = tempfile::Builder::new()
            .prefix("tidegate-demo-")
            .tempdir()
            .context("no temporary folder")?;
        let interactions = generated::write(scratch.path(), rows, &step)?;
        let (user, items) = whom_to_ask(&interactions)?;
        let said = format!(
            "{} interactions generated, seed {}",
            HumanCount(rows),
            generated::SEED
        );
        step.done(&said, started.elapsed());
        Ok(Self {
            catalog: None,
            interactions,
            user,
            items,
            titles: HashMap::new(),
            _scratch: Some(scratch),
        })
    }

    /// Takes `movies.csv` and `ratings.csv` from a folder.
    pub fn movielens(folder: &Path) -> Result<Self> {
        let (catalog, interactions) = (folder.join("movies.csv"), folder.join("ratings.csv"));
        let titles = read_titles(&catalog)?;
        let (user, items) = whom_to_ask(&interactions)?;
        Ok(Self {
            catalog: Some(catalog),
            interactions,
            user,
            items,
            titles,
            _scratch: None,
        })
    }

    /// What an item is called.
    pub fn title(&self, item: i64) -> String {
        self.titles.get(&item).cloned().unwrap_or_default()
    }
}

/// The user of the last row, and the items with the most rows.
fn whom_to_ask(file: &Path) -> Result<(i64, Vec<i64>)> {
    let mut reader =
        csv::Reader::from_path(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let headers = reader
        .headers()
        .with_context(|| format!("`{}` has no header", file.display()))?
        .clone();
    let column = |names: [&str; 2]| {
        let found = headers.iter().position(|header| names.contains(&header));
        found.with_context(|| {
            format!(
                "`{}` has no column `{}` or `{}`",
                file.display(),
                names[0],
                names[1]
            )
        })
    };
    let (users, items) = (column(["user_id", "userId"])?, column(["item_id", "movieId"])?);
    let mut popularity: HashMap<i64, u32> = HashMap::new();
    let mut user = 1;
    for row in reader.records().flatten() {
        let number = |column: usize| row.get(column).and_then(|text| text.parse::<i64>().ok());
        user = number(users).unwrap_or(user);
        if let Some(item) = number(items) {
            *popularity.entry(item).or_default() += 1;
        }
    }
    let mut ranked: Vec<(i64, u32)> = popularity.into_iter().collect();
    ranked.sort_by_key(|(item, rows)| (std::cmp::Reverse(*rows), *item));
    Ok((
        user,
        ranked
            .into_iter()
            .take(CANDIDATES)
            .map(|(item, _)| item)
            .collect(),
    ))
}

fn read_titles(file: &Path) -> Result<HashMap<i64, String>> {
    let mut reader =
        csv::Reader::from_path(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let rows = reader.records().flatten();
    Ok(rows
        .filter_map(|row| Some((row.get(0)?.parse().ok()?, row.get(1)?.to_owned())))
        .collect())
}
