//! Expectations on each value, or each pair of values, of its own.

use super::range::Range;
use super::{Cell, Check, Finding, Kwargs, Unexpected, cell, column, place};
use crate::table::FastSet;

enum Rule {
    NotNull,
    Null,
    Between(Range),
    InSet { values: FastSet<u64>, inside: bool },
    Type(Vec<&'static str>),
    Length(Range),
    Order { rising: bool, strictly: bool },
    PairEqual,
    PairGreater { or_equal: bool },
}

/// Which rows are left out.
#[derive(Clone, Copy, PartialEq)]
enum Skip {
    BothMissing,
    EitherMissing,
    Never,
}

struct ColumnMap {
    name: String,
    place: usize,
    other: Option<usize>,
    rule: Rule,
    skip: Skip,
    mostly: f64,
    found: Unexpected,
    /// The value before, for orders.
    before: Option<(f64, String)>,
}

pub(super) fn compile(
    kind: &str,
    kwargs: &Kwargs,
    columns: &[&str],
) -> Result<Option<Box<dyn Check>>, String> {
    let Some(rule) = rule(kind, kwargs)? else {
        return Ok(None);
    };
    let pair = matches!(rule, Rule::PairEqual | Rule::PairGreater { .. });
    let (name, place, other) = if pair {
        let named = |name: &Option<String>| {
            name.clone()
                .ok_or_else(|| format!("`{kind}` needs `column_A` and `column_B`"))
        };
        let (a, b) = (named(&kwargs.column_a)?, named(&kwargs.column_b)?);
        let places = (place(&a, columns)?, place(&b, columns)?);
        (format!("{a}`, `{b}"), places.0, Some(places.1))
    } else {
        (
            kwargs.column.clone().unwrap_or_default(),
            column(kind, kwargs, columns)?,
            None,
        )
    };
    let skip = match kwargs.ignore_row_if.as_deref() {
        None | Some("both_values_are_missing") => Skip::BothMissing,
        Some("either_value_is_missing") => Skip::EitherMissing,
        Some("neither" | "never") => Skip::Never,
        Some(other) => return Err(format!("`{kind}` does not know `ignore_row_if` = `{other}`")),
    };
    let (mostly, found) = (kwargs.mostly.unwrap_or(1.0), Unexpected::default());
    Ok(Some(Box::new(ColumnMap {
        name,
        place,
        other,
        rule,
        skip,
        mostly,
        found,
        before: None,
    })))
}

fn rule(kind: &str, kwargs: &Kwargs) -> Result<Option<Rule>, String> {
    let set = |inside| {
        let values = kwargs
            .value_set
            .as_ref()
            .ok_or_else(|| format!("`{kind}` needs `value_set`"))?;
        let hashes = values.iter().filter_map(Cell::of_json).map(Cell::hash).collect();
        Ok::<_, String>(Rule::InSet {
            values: hashes,
            inside,
        })
    };
    let order = |rising| Rule::Order {
        rising,
        strictly: kwargs.strictly.unwrap_or(false),
    };
    Ok(Some(match kind {
        "expect_column_values_to_not_be_null" => Rule::NotNull,
        "expect_column_values_to_be_null" => Rule::Null,
        "expect_column_values_to_be_between" => {
            let range = Range::new(kwargs)?;
            if range.is_open() {
                return Err(format!("`{kind}` needs `min_value` or `max_value`"));
            }
            Rule::Between(range)
        }
        "expect_column_values_to_be_in_set" if kwargs.value_set.is_none() => Rule::InSet {
            values: FastSet::default(),
            inside: false,
        },
        "expect_column_values_to_be_in_set" => set(true)?,
        "expect_column_values_to_not_be_in_set" => set(false)?,
        "expect_column_values_to_be_of_type" => Rule::Type(match &kwargs.type_ {
            Some(name) => kinds(std::slice::from_ref(name))?,
            None => return Err(format!("`{kind}` needs `type_`")),
        }),
        "expect_column_values_to_be_in_type_list" => Rule::Type(match &kwargs.type_list {
            Some(names) => kinds(names)?,
            None => vec!["bool", "int", "float", "str"],
        }),
        "expect_column_value_lengths_to_be_between" => Rule::Length(Range::new(kwargs)?),
        "expect_column_values_to_be_increasing" => order(true),
        "expect_column_values_to_be_decreasing" => order(false),
        "expect_column_pair_values_to_be_equal" => Rule::PairEqual,
        "expect_column_pair_values_a_to_be_greater_than_b" => Rule::PairGreater {
            or_equal: kwargs.or_equal.unwrap_or(false),
        },
        _ => return Ok(None),
    }))
}

/// The kinds of values that type names of Python, SQL and Arrow stand for.
fn kinds(names: &[String]) -> Result<Vec<&'static str>, String> {
    let kind = |name: &String| {
        Ok(match name.as_str() {
            "int" | "int64" | "int32" | "Int64" | "INTEGER" | "BIGINT" | "IntegerType" | "LongType" => "int",
            "float" | "float64" | "float32" | "FLOAT" | "DOUBLE" | "DOUBLE_PRECISION" | "DoubleType" => {
                "float"
            }
            "str" | "string" | "object" | "TEXT" | "VARCHAR" | "StringType" => "str",
            "bool" | "boolean" | "BOOLEAN" | "BooleanType" => "bool",
            other => {
                return Err(format!(
                    "found the type `{other}`, allowed are `int`, `float`, `str` and `bool`"
                ));
            }
        })
    };
    names.iter().map(kind).collect()
}

impl ColumnMap {
    /// Whether the row is as expected; none where it is left out.
    fn holds(&mut self, row: &[Cell<'_>]) -> Option<bool> {
        let value = cell(row, self.place);
        if let Some(other) = self.other {
            return self.pair_holds(value, cell(row, other));
        }
        match &self.rule {
            Rule::NotNull => return Some(!value.is_null()),
            Rule::Null => return Some(value.is_null()),
            _ if value.is_null() => return None,
            _ => {}
        }
        Some(match &self.rule {
            Rule::Between(range) => range.contains(value),
            Rule::InSet { values, inside } => values.contains(&value.hash()) == *inside,
            Rule::Type(kinds) => kinds.contains(&value.kind()),
            Rule::Length(range) => {
                matches!(value, Cell::Text(text) if range.contains(Cell::Int(text.chars().count() as i64)))
            }
            Rule::Order { rising, strictly } => {
                let holds = self
                    .before
                    .as_ref()
                    .is_none_or(|(number, text)| in_order(value, *number, text, *rising, *strictly));
                self.before = Some((value.number().unwrap_or(f64::NAN), value.to_string()));
                holds
            }
            Rule::NotNull | Rule::Null | Rule::PairEqual | Rule::PairGreater { .. } => true,
        })
    }

    fn pair_holds(&self, a: Cell<'_>, b: Cell<'_>) -> Option<bool> {
        let left_out = match self.skip {
            Skip::BothMissing => a.is_null() && b.is_null(),
            Skip::EitherMissing => a.is_null() || b.is_null(),
            Skip::Never => false,
        };
        if left_out {
            return None;
        }
        let order = a.compare(b);
        Some(match self.rule {
            Rule::PairGreater { or_equal: true } => order.is_some_and(|order| order.is_ge()),
            Rule::PairGreater { or_equal: false } => order.is_some_and(|order| order.is_gt()),
            _ => order.is_some_and(|order| order.is_eq()),
        })
    }

    fn allowed(&self) -> String {
        match &self.rule {
            Rule::NotNull => "not null".into(),
            Rule::Null => "null".into(),
            Rule::Between(range) => range.to_string(),
            Rule::InSet { inside: true, .. } => "one of the set".into(),
            Rule::InSet { inside: false, .. } => "none of the set".into(),
            Rule::Type(kinds) => format!("of type {}", kinds.join(" or ")),
            Rule::Length(range) => format!("of a length {range}"),
            Rule::Order { rising: true, .. } => "more than before".into(),
            Rule::Order { rising: false, .. } => "less than before".into(),
            Rule::PairEqual => "equal".into(),
            Rule::PairGreater { .. } => "the first greater".into(),
        }
    }
}

fn in_order(value: Cell<'_>, number: f64, text: &str, rising: bool, strictly: bool) -> bool {
    let before = if number.is_nan() {
        Cell::Text(text)
    } else {
        Cell::Float(number)
    };
    let Some(order) = value.compare(before) else {
        return false;
    };
    if order.is_eq() {
        !strictly
    } else {
        order.is_gt() == rising
    }
}

impl Check for ColumnMap {
    fn row(&mut self, row: &[Cell<'_>]) -> bool {
        let at = self.found.rows;
        self.found.rows += 1;
        match self.holds(row) {
            None => {
                self.found.missing += 1;
                false
            }
            Some(true) => false,
            Some(false) => {
                let (value, other) = (cell(row, self.place), self.other);
                self.found.add(at, || match other {
                    None => value.to_json(),
                    Some(other) => vec![value.to_json(), cell(row, other).to_json()].into(),
                });
                true
            }
        }
    }

    fn reason(&self, row: &[Cell<'_>]) -> String {
        let (name, value, allowed) = (&self.name, cell(row, self.place), self.allowed());
        match self.other {
            None => format!("`{name}` is `{value}`, allowed is {allowed}"),
            Some(other) => format!(
                "`{name}` are `{value}`, `{}`, allowed is {allowed}",
                cell(row, other)
            ),
        }
    }

    fn finish(&self) -> Finding {
        let mut finding = self.found.finish(self.mostly);
        if let Rule::NotNull | Rule::Null = self.rule {
            finding.result.remove("missing_count");
            finding.result.remove("missing_percent");
        }
        finding
    }
}
