//! Values, or groups of values, that may appear once.

use std::collections::hash_map::Entry;

use serde_json::{Map, Value};

use super::{Cell, Check, DISTINCT, Finding, Kwargs, Unexpected, cell, column, place};
use crate::table::{FastMap, hash64};

#[derive(Clone, Copy, PartialEq)]
enum Skip {
    AllMissing,
    AnyMissing,
    Never,
}

/// The first row with a value is as expected, though the report counts it too once there is a second.
struct Unique {
    columns: Vec<(String, usize)>,
    skip: Skip,
    mostly: f64,
    seen: FastMap<u64, u32>,
    /// Whether equal rows are always in one part, so that a part's values can be forgotten after it.
    parted: bool,
    left_out: u64,
    found: Unexpected,
}

pub(super) fn compile(
    kind: &str,
    kwargs: &Kwargs,
    columns: &[&str],
) -> Result<Option<Box<dyn Check>>, String> {
    let named = match kind {
        "expect_column_values_to_be_unique" => {
            column(kind, kwargs, columns)?;
            kwargs.column.iter().cloned().collect()
        }
        "expect_compound_columns_to_be_unique" => kwargs.column_list.clone(),
        _ => return Ok(None),
    };
    if named.is_empty() {
        return Err(format!("`{kind}` needs `column_list`"));
    }
    let skip = match kwargs.ignore_row_if.as_deref() {
        None | Some("all_values_are_missing") => Skip::AllMissing,
        Some("any_value_is_missing") => Skip::AnyMissing,
        Some("never") => Skip::Never,
        Some(other) => return Err(format!("`{kind}` does not know `ignore_row_if` = `{other}`")),
    };
    let parted = named.iter().any(|name| name == "timestamp");
    let places = named
        .into_iter()
        .map(|name| place(&name, columns).map(|place| (name, place)));
    Ok(Some(Box::new(Unique {
        columns: places.collect::<Result<_, _>>()?,
        skip,
        mostly: kwargs.mostly.unwrap_or(1.0),
        seen: FastMap::default(),
        parted,
        left_out: 0,
        found: Unexpected::default(),
    })))
}

impl Unique {
    fn skips(&self, row: &[Cell<'_>]) -> bool {
        let mut missing = self.columns.iter().map(|(_, place)| cell(row, *place).is_null());
        match self.skip {
            Skip::AllMissing => missing.all(|missing| missing),
            Skip::AnyMissing => missing.any(|missing| missing),
            Skip::Never => false,
        }
    }

    fn shown(&self, row: &[Cell<'_>]) -> Value {
        match self.columns.as_slice() {
            [(_, place)] => cell(row, *place).to_json(),
            columns => {
                let entries = columns
                    .iter()
                    .map(|(name, place)| (name.clone(), cell(row, *place).to_json()));
                entries.collect::<Map<_, _>>().into()
            }
        }
    }
}

impl Check for Unique {
    fn row(&mut self, row: &[Cell<'_>]) -> bool {
        let at = self.found.rows;
        self.found.rows += 1;
        if self.skips(row) {
            self.found.missing += 1;
            return false;
        }
        let key = self
            .columns
            .iter()
            .fold(0, |key, (_, place)| hash64(&(key, cell(row, *place).hash())));
        let full = self.seen.len() >= DISTINCT;
        let times = match self.seen.entry(key) {
            Entry::Occupied(mut entry) => {
                *entry.get_mut() = entry.get().saturating_add(1);
                *entry.get()
            }
            Entry::Vacant(_) if full => {
                self.left_out += 1;
                return false;
            }
            Entry::Vacant(entry) => *entry.insert(1),
        };
        if times == 2 {
            let first = self.shown(row);
            self.found.add(at, || first);
        }
        if times >= 2 {
            let again = self.shown(row);
            self.found.add(at, || again);
        }
        times >= 2
    }

    fn reason(&self, row: &[Cell<'_>]) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<_> = self
            .columns
            .iter()
            .map(|(_, place)| cell(row, *place).to_string())
            .collect();
        format!(
            "`{}` are `{}`, which an earlier row has",
            names.join("`, `"),
            values.join("`, `")
        )
    }

    fn part(&mut self) {
        if self.parted {
            self.seen.clear();
        }
    }

    fn finish(&self) -> Finding {
        let mut finding = self.found.finish(self.mostly);
        if self.left_out > 0 {
            finding
                .result
                .insert("rows_not_checked".into(), self.left_out.into());
        }
        finding
    }
}
