//! A range of numbers or texts.

use std::cmp::Ordering;

use serde_json::Value;

use crate::validate::cell::Cell;
use crate::validate::suite::Kwargs;

/// From `min_value` to `max_value`, each with or without itself.
#[derive(Clone, Debug)]
pub(super) struct Range {
    min: Option<Value>,
    max: Option<Value>,
    strict_min: bool,
    strict_max: bool,
}

impl Range {
    /// Reads the range; a bound must be a number or a text.
    pub(super) fn new(kwargs: &Kwargs) -> Result<Self, String> {
        let bound = |value: &Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(value @ (Value::Number(_) | Value::String(_))) => Ok(Some(value.clone())),
            Some(other) => Err(format!(
                "found the bound `{other}`, allowed are numbers and texts"
            )),
        };
        Ok(Self {
            min: bound(&kwargs.min_value)?,
            max: bound(&kwargs.max_value)?,
            strict_min: kwargs.strict_min.unwrap_or(false),
            strict_max: kwargs.strict_max.unwrap_or(false),
        })
    }

    /// Whether neither bound is set.
    pub(super) fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }

    /// Whether the value lies in the range; what cannot be compared does not.
    pub(super) fn contains(&self, value: Cell<'_>) -> bool {
        let order = |bound: &Option<Value>| match bound {
            None => Some(None),
            Some(bound) => Cell::of_json(bound)
                .and_then(|bound| value.compare(bound))
                .map(Some),
        };
        let (Some(to_min), Some(to_max)) = (order(&self.min), order(&self.max)) else {
            return false;
        };
        let above = match to_min {
            None | Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => !self.strict_min,
            Some(Ordering::Less) => false,
        };
        let below = match to_max {
            None | Some(Ordering::Less) => true,
            Some(Ordering::Equal) => !self.strict_max,
            Some(Ordering::Greater) => false,
        };
        above && below
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign =
            |strict: bool, sign: &'static str, or_equal: &'static str| if strict { sign } else { or_equal };
        match (&self.min, &self.max) {
            (None, None) => f.write_str("anything"),
            (Some(min), None) => write!(f, "{} {min}", sign(self.strict_min, ">", ">=")),
            (None, Some(max)) => write!(f, "{} {max}", sign(self.strict_max, "<", "<=")),
            (Some(min), Some(max)) => {
                let (from, to) = (sign(self.strict_min, ">", ">="), sign(self.strict_max, "<", "<="));
                write!(f, "{from} {min} and {to} {max}")
            }
        }
    }
}
