//! One value of a row, comparable across types the way the suite's JSON is.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::table::hash64;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(&'a str),
}

impl<'a> Cell<'a> {
    /// A cell of a JSON scalar; none for lists and objects.
    pub fn of_json(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Self::Int(number),
                None => Self::Float(number.as_f64()?),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// The value as JSON.
    pub fn to_json(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => json!(flag),
            Self::Int(number) => json!(number),
            Self::Float(number) => json!(number),
            Self::Text(text) => json!(text),
        }
    }

    /// Whether there is no value; a number that is not one counts as none.
    pub fn is_null(self) -> bool {
        matches!(self, Self::Null) || matches!(self, Self::Float(number) if number.is_nan())
    }

    /// The value as a number; a truth value is 0 or 1.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Bool(flag) => Some(f64::from(u8::from(flag))),
            Self::Int(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            Self::Null | Self::Text(_) => None,
        }
    }

    /// The order of two values of one kind.
    pub fn compare(self, other: Cell<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Cell::Text(b)) => Some(a.cmp(b)),
            (Self::Int(a), Cell::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.number()?.partial_cmp(&b.number()?),
        }
    }

    /// A hash under which equal values, whatever their type, are equal.
    pub fn hash(self) -> u64 {
        match self {
            Self::Null => 0,
            Self::Text(text) => hash64(&(1_u8, text)),
            Self::Bool(flag) => hash64(&(2_u8, i64::from(flag))),
            Self::Int(number) => hash64(&(2_u8, number)),
            Self::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                hash64(&(2_u8, number as i64))
            }
            Self::Float(number) => hash64(&(3_u8, number.to_bits())),
        }
    }

    /// The type's name.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
        }
    }
}

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => flag.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_of_different_types_are_equal() {
        assert_eq!(Cell::Int(1).hash(), Cell::Float(1.0).hash());
        assert_eq!(Cell::Bool(true).hash(), Cell::Int(1).hash());
        assert_ne!(Cell::Text("1").hash(), Cell::Int(1).hash());
        assert_eq!(Cell::Int(2).compare(Cell::Float(1.5)), Some(Ordering::Greater));
        assert_eq!(Cell::Text("a").compare(Cell::Int(1)), None);
    }
}
