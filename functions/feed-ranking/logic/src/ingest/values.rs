//! Values as the file has them, and the numbers, flags and times in them.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// A value of a row, before anyone asked what it should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value<'a> {
    /// Absent or null.
    #[default]
    Missing,
    /// Text, not known to be UTF-8.
    Text(Cow<'a, [u8]>),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Something that no field holds, by its name.
    Other(&'static str),
}

/// The latest time that is believed: 2100-01-01.
const LATEST: i64 = 4_102_444_800;
/// Bytes of a text field.
const TEXT: usize = 256;

impl Value<'_> {
    /// Whether nothing is there: null, empty, or one of the words for it.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Text(text) => matches!(text.trim_ascii(), b"" | b"null" | b"NULL" | b"\\N"),
            _ => false,
        }
    }

    /// An integer, also where it is written as text or as a whole number.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Float(number) => whole(*number),
            Self::Text(text) => {
                let text = text.trim_ascii();
                digits(text).or_else(|| float(text).and_then(whole))
            }
            _ => None,
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number).filter(|number| number.is_finite()),
            Self::Text(text) => float(text.trim_ascii()),
            _ => None,
        }
    }

    /// 1 for yes and 0 for no; other small integers pass, for the suite to judge.
    pub(super) fn flag(&self) -> Option<i32> {
        match self {
            Self::Bool(flag) => Some((*flag).into()),
            Self::Text(text) => match text.trim_ascii() {
                b"1" => Some(1),
                b"0" => Some(0),
                word if ["true", "yes", "t"]
                    .iter()
                    .any(|w| word.eq_ignore_ascii_case(w.as_bytes())) =>
                {
                    Some(1)
                }
                word if ["false", "no", "f"]
                    .iter()
                    .any(|w| word.eq_ignore_ascii_case(w.as_bytes())) =>
                {
                    Some(0)
                }
                _ => self.integer()?.try_into().ok(),
            },
            _ => self.integer()?.try_into().ok(),
        }
    }

    /// Seconds since the Unix epoch: a number of seconds, milli-, micro- or nanoseconds, or ISO 8601.
    pub(super) fn time(&self) -> Option<i64> {
        let seconds = match self {
            Self::Int(number) => seconds(*number),
            Self::Float(number) => seconds(number.is_finite().then(|| number.floor() as i64)?),
            Self::Text(text) => {
                let text = text.trim_ascii();
                match digits(text).or_else(|| float(text).map(|number| number.floor() as i64)) {
                    Some(number) => seconds(number),
                    None => calendar(std::str::from_utf8(text).ok()?)?,
                }
            }
            _ => return None,
        };
        (0..LATEST).contains(&seconds).then_some(seconds)
    }

    /// Short UTF-8 text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if text.len() <= TEXT => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The value as it is shown in a reason, cut short.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Text(text) => String::from_utf8_lossy(text).chars().take(80).collect(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::Other(name) => (*name).to_owned(),
        }
    }
}

/// An integer of at most 18 digits: the case that is nearly every field, so it must be fast.
fn digits(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut number = 0_i64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if negative { -number } else { number })
}

fn float(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// Numbers too large for seconds are taken for smaller units.
fn seconds(number: i64) -> i64 {
    const UNITS: [(i64, i64); 3] = [
        (100_000_000_000_000_000, 1_000_000_000),
        (100_000_000_000_000, 1_000_000),
        (100_000_000_000, 1_000),
    ];
    let unit = UNITS.iter().find(|(from, _)| number >= *from);
    unit.map_or(number, |(_, per_second)| number / per_second)
}

fn calendar(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp());
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Some(time.and_utc().timestamp());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.as_bytes().into())
    }

    #[test]
    fn integers_are_read_exactly_or_not_at_all() {
        for (written, wanted) in [
            ("12", Some(12)),
            (" -7 ", Some(-7)),
            ("3.0", Some(3)),
            ("3.5", None),
            ("", None),
        ] {
            assert_eq!(text(written).integer(), wanted, "`{written}`");
        }
        assert_eq!(text("12x").integer(), None);
        assert_eq!(text("99999999999999999999").integer(), None);
    }

    #[test]
    fn times_are_read_in_every_usual_unit_and_form() {
        let wanted = Some(1_700_000_000);
        for written in [
            "1700000000",
            "1700000000.5",
            "1700000000000",
            "1700000000000000",
            "1700000000000000000",
            "2023-11-14T22:13:20Z",
            "2023-11-14 22:13:20",
            "2023-11-14T23:13:20.5+01:00",
        ] {
            assert_eq!(text(written).time(), wanted, "`{written}`");
        }
        for wrong in ["-5", "yesterday", "4102444800", "nan", ""] {
            assert_eq!(text(wrong).time(), None, "`{wrong}`");
        }
    }

    #[test]
    fn flags_are_numbers_or_words() {
        assert_eq!(
            ["1", "TRUE", "no", "0", "2"].map(|word| text(word).flag()),
            [1, 1, 0, 0, 2].map(Some)
        );
        assert_eq!(text("maybe").flag(), None);
        assert_eq!(Value::Bool(true).flag(), Some(1));
    }
}
