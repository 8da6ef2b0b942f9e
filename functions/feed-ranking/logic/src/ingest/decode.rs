//! A row of values becomes an interaction, or the reason why it does not.

use super::ClickRule;
use super::mapping::{FIELDS, Field};
use super::values::Value;
use crate::table::Interaction;

/// The values of a row, by field.
pub(super) type Values<'a> = [Value<'a>; FIELDS];

/// A value that its field cannot hold.
#[derive(Debug)]
pub(super) struct Malformed {
    field: Field,
    found: Option<String>,
    wanted: &'static str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, wanted) = (self.field.name(), self.wanted);
        match &self.found {
            Some(found) => write!(f, "`{name}` is `{found}`, wanted is {wanted}"),
            None => write!(f, "`{name}` is missing, wanted is {wanted}"),
        }
    }
}

const INTEGER: &str = "an integer";
const TIME: &str = "a time between 1970 and 2100, in seconds or ISO 8601";
const FLAG: &str = "0 or 1";
const NUMBER: &str = "a finite number";
const TEXT: &str = "UTF-8 text of at most 256 bytes";

/// Reads an interaction.
pub(super) fn interaction<'v>(
    values: &'v Values<'_>,
    rule: Option<ClickRule>,
) -> Result<Interaction<'v>, Malformed> {
    let mut row = Interaction {
        user_id: required(values, Field::UserId, Value::integer, INTEGER)?,
        item_id: required(values, Field::ItemId, Value::integer, INTEGER)?,
        timestamp: required(values, Field::Timestamp, Value::time, TIME)?,
        click: optional(values, Field::Click, Value::flag, FLAG)?,
        like: optional(values, Field::Like, Value::flag, FLAG)?,
        share: optional(values, Field::Share, Value::flag, FLAG)?,
        dwell_seconds: optional(values, Field::DwellSeconds, Value::number, NUMBER)?,
        rating: optional(values, Field::Rating, Value::number, NUMBER)?,
        device: optional(values, Field::Device, Value::text, TEXT)?,
        category: optional(values, Field::Category, Value::text, TEXT)?,
    };
    if let (None, Some(rule)) = (row.click, rule) {
        let value = if rule.field == Field::Rating {
            row.rating
        } else {
            row.dwell_seconds
        };
        row.click = value.map(|value| rule.holds(value).into());
    }
    Ok(row)
}

/// Reads an item: its id, title and categories.
pub(super) fn item<'v>(values: &'v Values<'_>) -> Result<(i64, Option<&'v str>, Option<&'v str>), Malformed> {
    let id = required(values, Field::ItemId, Value::integer, INTEGER)?;
    let title = optional(values, Field::Title, Value::text, TEXT)?;
    let categories = optional(values, Field::Category, Value::text, TEXT)?;
    Ok((id, title, categories))
}

fn required<'v, 'a, T>(
    values: &'v Values<'a>,
    field: Field,
    read: impl Fn(&'v Value<'a>) -> Option<T>,
    wanted: &'static str,
) -> Result<T, Malformed> {
    let value = &values[field as usize];
    read(value).ok_or_else(|| malformed(value, field, wanted))
}

fn optional<'v, 'a, T>(
    values: &'v Values<'a>,
    field: Field,
    read: impl Fn(&'v Value<'a>) -> Option<T>,
    wanted: &'static str,
) -> Result<Option<T>, Malformed> {
    let value = &values[field as usize];
    if value.is_missing() {
        return Ok(None);
    }
    read(value)
        .map(Some)
        .ok_or_else(|| malformed(value, field, wanted))
}

#[cold]
fn malformed(value: &Value<'_>, field: Field, wanted: &'static str) -> Malformed {
    let found = (!value.is_missing()).then(|| value.shown());
    Malformed { field, found, wanted }
}
