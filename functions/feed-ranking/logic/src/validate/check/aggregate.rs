//! Expectations on a table, or on a number that a whole column comes to.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::range::Range;
use super::{Cell, Check, DISTINCT, Finding, Kwargs, cell, column, object};
use crate::table::FastMap;

enum Measure {
    Rows,
    Fixed(Value, bool, String),
    Mean,
    Sum,
    Min,
    Max,
    Deviation,
    Distinct,
    DistinctShare,
    Values(Comparison, Vec<Value>),
}

#[derive(Clone, Copy)]
enum Comparison {
    Inside,
    Contains,
    Equal,
    MostCommon { ties: bool },
}

struct Aggregate {
    place: usize,
    measure: Measure,
    range: Range,
    rows: u64,
    present: u64,
    /// The running mean and sum of squares about it, after Welford.
    mean: f64,
    squares: f64,
    sum: f64,
    min: Option<Value>,
    max: Option<Value>,
    counts: FastMap<u64, (u64, Value)>,
}

pub(super) fn compile(
    kind: &str,
    kwargs: &Kwargs,
    columns: &[&str],
) -> Result<Option<Box<dyn Check>>, String> {
    let Some(measure) = measure(kind, kwargs, columns)? else {
        return Ok(None);
    };
    let needs_column = !matches!(measure, Measure::Rows | Measure::Fixed(..));
    let place = if needs_column {
        column(kind, kwargs, columns)?
    } else {
        0
    };
    let range = match kwargs.value {
        Some(value) => {
            let exact = Some(json!(value));
            Range::new(&Kwargs {
                min_value: exact.clone(),
                max_value: exact,
                ..Kwargs::default()
            })?
        }
        None => Range::new(kwargs)?,
    };
    Ok(Some(Box::new(Aggregate {
        place,
        measure,
        range,
        rows: 0,
        present: 0,
        mean: 0.0,
        squares: 0.0,
        sum: 0.0,
        min: None,
        max: None,
        counts: FastMap::default(),
    })))
}

fn measure(kind: &str, kwargs: &Kwargs, columns: &[&str]) -> Result<Option<Measure>, String> {
    let values = |comparison| {
        let values = kwargs
            .value_set
            .clone()
            .ok_or_else(|| format!("`{kind}` needs `value_set`"))?;
        Ok::<_, String>(Measure::Values(comparison, values))
    };
    Ok(Some(match kind {
        "expect_table_row_count_to_be_between" => Measure::Rows,
        "expect_table_row_count_to_equal" => {
            kwargs.value.ok_or_else(|| format!("`{kind}` needs `value`"))?;
            Measure::Rows
        }
        "expect_table_column_count_to_be_between" | "expect_table_column_count_to_equal" => {
            let exact = kwargs.value.map(|value| value == columns.len() as u64);
            let success = match exact {
                Some(exact) => exact,
                None => Range::new(kwargs)?.contains(Cell::Int(columns.len() as i64)),
            };
            Measure::Fixed(
                columns.len().into(),
                success,
                format!("found are {} columns", columns.len()),
            )
        }
        "expect_column_to_exist" => {
            let name = kwargs
                .column
                .as_deref()
                .ok_or_else(|| format!("`{kind}` needs `column`"))?;
            Measure::Fixed(
                Value::Null,
                columns.contains(&name),
                format!("found are `{}`", columns.join("`, `")),
            )
        }
        "expect_table_columns_to_match_set" => columns_match(kwargs, columns),
        "expect_column_mean_to_be_between" => Measure::Mean,
        "expect_column_sum_to_be_between" => Measure::Sum,
        "expect_column_min_to_be_between" => Measure::Min,
        "expect_column_max_to_be_between" => Measure::Max,
        "expect_column_stdev_to_be_between" => Measure::Deviation,
        "expect_column_unique_value_count_to_be_between" => Measure::Distinct,
        "expect_column_proportion_of_unique_values_to_be_between" => Measure::DistinctShare,
        "expect_column_distinct_values_to_be_in_set" => values(Comparison::Inside)?,
        "expect_column_distinct_values_to_contain_set" => values(Comparison::Contains)?,
        "expect_column_distinct_values_to_equal_set" => values(Comparison::Equal)?,
        "expect_column_most_common_value_to_be_in_set" => values(Comparison::MostCommon {
            ties: kwargs.ties_okay.unwrap_or(false),
        })?,
        _ => return Ok(None),
    }))
}

fn columns_match(kwargs: &Kwargs, columns: &[&str]) -> Measure {
    let wanted = kwargs.column_set.clone().unwrap_or_default();
    let all_there = wanted.iter().all(|name| columns.contains(&name.as_str()));
    let exact = kwargs.exact_match.unwrap_or(true);
    let none_else = !exact
        || columns
            .iter()
            .all(|name| wanted.iter().any(|wanted| wanted == name));
    let success = kwargs.column_set.is_none() || (all_there && none_else);
    let mut sorted = columns.to_vec();
    sorted.sort_unstable();
    Measure::Fixed(
        json!(sorted),
        success,
        format!("found are the columns `{}`", columns.join("`, `")),
    )
}

impl Aggregate {
    fn observe(&mut self, value: Cell<'_>) {
        self.present += 1;
        match &self.measure {
            Measure::Mean | Measure::Sum | Measure::Deviation => {
                let Some(number) = value.number() else { return };
                self.sum += number;
                let delta = number - self.mean;
                self.mean += delta / self.present as f64;
                self.squares += delta * (number - self.mean);
            }
            Measure::Min => keep(&mut self.min, value, Ordering::Less),
            Measure::Max => keep(&mut self.max, value, Ordering::Greater),
            Measure::Distinct | Measure::DistinctShare | Measure::Values(..) => self.count(value),
            Measure::Rows | Measure::Fixed(..) => {}
        }
    }

    fn count(&mut self, value: Cell<'_>) {
        let full = self.counts.len() >= DISTINCT;
        let shown = matches!(self.measure, Measure::Values(..));
        match self.counts.get_mut(&value.hash()) {
            Some((count, _)) => *count += 1,
            None if full => {}
            None => {
                let example = if shown { value.to_json() } else { Value::Null };
                self.counts.insert(value.hash(), (1, example));
            }
        }
    }

    fn observed(&self) -> Value {
        let known = |number: f64| {
            if self.present == 0 {
                Value::Null
            } else {
                json!(number)
            }
        };
        match &self.measure {
            Measure::Rows => self.rows.into(),
            Measure::Fixed(value, ..) => value.clone(),
            Measure::Mean => known(self.mean),
            Measure::Sum => known(self.sum),
            Measure::Deviation if self.present > 1 => {
                known((self.squares / (self.present - 1) as f64).sqrt())
            }
            Measure::Deviation => Value::Null,
            Measure::Min => self.min.clone().unwrap_or_default(),
            Measure::Max => self.max.clone().unwrap_or_default(),
            Measure::Distinct => self.counts.len().into(),
            Measure::DistinctShare => known(self.counts.len() as f64 / self.present.max(1) as f64),
            Measure::Values(Comparison::MostCommon { .. }, _) => self.most_common().into(),
            Measure::Values(..) => {
                let mut values: Vec<_> = self
                    .counts
                    .values()
                    .map(|(_, value)| value.clone())
                    .take(100)
                    .collect();
                values.sort_by(in_order);
                values.into()
            }
        }
    }

    fn most_common(&self) -> Vec<Value> {
        let most = self.counts.values().map(|(count, _)| *count).max().unwrap_or(0);
        let common = self.counts.values().filter(|(count, _)| *count == most);
        let mut values: Vec<_> = common.map(|(_, value)| value.clone()).collect();
        values.sort_by(in_order);
        values
    }

    fn values_match(&self, comparison: Comparison, wanted: &[Value]) -> bool {
        let hashes: Vec<u64> = wanted.iter().filter_map(Cell::of_json).map(Cell::hash).collect();
        let inside = || self.counts.keys().all(|hash| hashes.contains(hash));
        let contains = || hashes.iter().all(|hash| self.counts.contains_key(hash));
        match comparison {
            Comparison::Inside => inside(),
            Comparison::Contains => contains(),
            Comparison::Equal => inside() && contains(),
            Comparison::MostCommon { ties } => {
                let common = self.most_common();
                let inside = common
                    .iter()
                    .filter_map(Cell::of_json)
                    .any(|value| hashes.contains(&value.hash()));
                inside && (ties || common.len() == 1)
            }
        }
    }
}

fn in_order(a: &Value, b: &Value) -> Ordering {
    let cells = Cell::of_json(a).zip(Cell::of_json(b));
    cells.and_then(|(a, b)| a.compare(b)).unwrap_or(Ordering::Equal)
}

fn keep(kept: &mut Option<Value>, value: Cell<'_>, wanted: Ordering) {
    let better = match kept.as_ref().and_then(Cell::of_json) {
        None => true,
        Some(kept) => value.compare(kept) == Some(wanted),
    };
    if better {
        *kept = Some(value.to_json());
    }
}

impl Check for Aggregate {
    fn row(&mut self, row: &[Cell<'_>]) -> bool {
        self.rows += 1;
        if !matches!(self.measure, Measure::Rows | Measure::Fixed(..)) {
            let value = cell(row, self.place);
            if !value.is_null() {
                self.observe(value);
            }
        }
        false
    }

    fn reason(&self, _: &[Cell<'_>]) -> String {
        String::new()
    }

    fn finish(&self) -> Finding {
        let observed = self.observed();
        let (success, words) = match &self.measure {
            Measure::Fixed(_, success, words) => (*success, words.clone()),
            Measure::Values(comparison, wanted) => (
                self.values_match(*comparison, wanted),
                format!("observed is `{observed}`"),
            ),
            _ => {
                let value = Cell::of_json(&observed).unwrap_or(Cell::Null);
                let success = self.range.is_open() || (!value.is_null() && self.range.contains(value));
                (
                    success,
                    format!("observed is {observed}, allowed is {}", self.range),
                )
            }
        };
        let result = object([("element_count", self.rows.into()), ("observed_value", observed)]);
        Finding {
            success,
            result,
            words,
        }
    }
}
