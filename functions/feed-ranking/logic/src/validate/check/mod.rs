//! Expectations at work: each sees every row once and then says whether it was met.

mod aggregate;
mod column_map;
mod distribution;
mod range;
mod unique;

use serde_json::Value;

use super::cell::Cell;
use super::suite::{Expectation, Kwargs};

/// Distinct values that a check remembers; memory is bounded, and rows after that are not looked at.
pub(super) const DISTINCT: usize = 1_750_000;

/// What an expectation came to.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Whether it was met.
    pub success: bool,
    /// The numbers, in the words of Great Expectations.
    pub result: serde_json::Map<String, Value>,
    /// What was found and what was allowed.
    pub words: String,
}

/// An expectation at work.
pub trait Check {
    /// Looks at a row; true where the row is not as expected.
    fn row(&mut self, row: &[Cell<'_>]) -> bool;

    /// Says why a row was not as expected.
    fn reason(&self, row: &[Cell<'_>]) -> String;

    /// A new part begins whose rows share none of their `timestamp`s with those before.
    fn part(&mut self) {}

    /// What it came to.
    fn finish(&self) -> Finding;
}

/// Arguments that change nothing here.
const IGNORED: [&str; 6] = [
    "result_format",
    "catch_exceptions",
    "meta",
    "auto",
    "batch_id",
    "parse_strings_as_datetimes",
];

/// Puts an expectation to work on a table with these columns.
pub fn compile(expectation: &Expectation, columns: &[&str]) -> Result<Box<dyn Check>, String> {
    let (kind, kwargs) = (expectation.kind.as_str(), &expectation.kwargs);
    if let Some((name, _)) = kwargs
        .other
        .iter()
        .find(|(name, _)| !IGNORED.contains(&name.as_str()))
    {
        return Err(format!("`{kind}` does not take `{name}`"));
    }
    for compile in [
        column_map::compile,
        unique::compile,
        aggregate::compile,
        distribution::compile,
    ] {
        if let Some(check) = compile(kind, kwargs, columns)? {
            return Ok(check);
        }
    }
    Err(format!("there is no expectation `{kind}` here"))
}

/// The place of a column.
fn place(name: &str, columns: &[&str]) -> Result<usize, String> {
    let place = columns.iter().position(|column| *column == name);
    place.ok_or_else(|| {
        format!(
            "there is no column `{name}`, found are `{}`",
            columns.join("`, `")
        )
    })
}

/// The place of the column that the expectation is about.
fn column(kind: &str, kwargs: &Kwargs, columns: &[&str]) -> Result<usize, String> {
    let name = kwargs
        .column
        .as_deref()
        .ok_or_else(|| format!("`{kind}` needs `column`"))?;
    place(name, columns)
}

/// The cell at a place; null where the row is too short.
fn cell<'a>(row: &[Cell<'a>], place: usize) -> Cell<'a> {
    row.get(place).copied().unwrap_or(Cell::Null)
}

/// Values that were not as expected, some of them in full.
#[derive(Clone, Debug, Default)]
struct Unexpected {
    rows: u64,
    missing: u64,
    count: u64,
    list: Vec<Value>,
    places: Vec<u64>,
}

/// Values that are shown in full.
const SHOWN: usize = 20;

impl Unexpected {
    fn add(&mut self, row: u64, value: impl FnOnce() -> Value) {
        self.count += 1;
        if self.list.len() < SHOWN {
            self.list.push(value());
            self.places.push(row);
        }
    }

    /// The share of the values looked at that were as expected is at least `mostly`.
    fn finish(&self, mostly: f64) -> Finding {
        let looked_at = self.rows - self.missing;
        let percent = |of: u64| {
            if of == 0 {
                0.0
            } else {
                self.count as f64 / of as f64 * 100.0
            }
        };
        let share = 1.0 - percent(looked_at) / 100.0;
        let success = looked_at == 0 || (looked_at - self.count) as f64 / looked_at as f64 >= mostly;
        let result = object([
            ("element_count", self.rows.into()),
            ("missing_count", self.missing.into()),
            (
                "missing_percent",
                (if self.rows == 0 {
                    0.0
                } else {
                    self.missing as f64 / self.rows as f64 * 100.0
                })
                .into(),
            ),
            ("unexpected_count", self.count.into()),
            ("unexpected_percent", percent(looked_at).into()),
            ("unexpected_percent_total", percent(self.rows).into()),
            ("unexpected_percent_nonmissing", percent(looked_at).into()),
            ("partial_unexpected_list", self.list.clone().into()),
            ("partial_unexpected_index_list", self.places.clone().into()),
        ]);
        let words = format!(
            "{:.2} % are as expected, at least {:.2} % must be",
            share * 100.0,
            mostly * 100.0
        );
        Finding {
            success,
            result,
            words,
        }
    }
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> serde_json::Map<String, Value> {
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
