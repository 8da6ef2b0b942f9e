//! JSON Lines: one flat object a line.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::IngestError;
use super::decode::Values;
use super::intake::Intake;
use super::mapping::{Field, Mapping};
use super::values::Value;
use crate::table::{FastMap, Source, Stage, Stream};

/// Bytes of one read.
const BUFFER: usize = 1 << 20;
/// Bytes of one line.
const LINE: u64 = 1 << 20;
/// Lines that are looked at for their keys.
const SAMPLE: usize = 100;

type Object = serde_json::Map<String, serde_json::Value>;

/// The keys of the first lines.
pub(super) fn keys<S: Source>(source: &Arc<S>) -> Result<Vec<String>, IngestError> {
    let mut lines = Lines::new(Stream::new(source.clone(), 0));
    let mut found: Vec<String> = Vec::new();
    let mut wrong = None;
    for _ in 0..SAMPLE {
        if !lines.advance()? {
            break;
        }
        let line = &lines.line;
        let object: Object = match serde_json::from_slice(line) {
            Ok(object) => object,
            Err(error) => {
                wrong.get_or_insert(format!("line {}: {error}", lines.number));
                continue;
            }
        };
        for (key, _) in object {
            if !found.contains(&key) {
                found.push(key);
            }
        }
    }
    match wrong {
        Some(wrong) if found.is_empty() => Err(IngestError::Rejected(format!(
            "no line is a JSON object; the first is not: {wrong}"
        ))),
        _ => Ok(found),
    }
}

/// Reads every line.
pub(super) fn read<S: Source, T: Stage>(
    source: &Arc<S>,
    intake: &mut Intake<'_, T>,
) -> Result<(), IngestError> {
    let columns = keys(source)?;
    let fields = Fields::new(&columns, intake.mapping());
    let mut lines = Lines::new(Stream::new(source.clone(), 0));
    while lines.advance()? {
        let (number, line) = (lines.number, lines.line.as_slice());
        match fields.values(line) {
            Ok(values) => intake.row(number, &values, || shown(line))?,
            Err(error) => intake.malformed(number, &format!("no flat JSON object: {error}"), &shown(line))?,
        }
        intake.progress(lines.bytes);
    }
    Ok(())
}

fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

/// Lines that are not blank, one at a time.
struct Lines<R> {
    inner: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    fn new(inner: R) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, inner),
            line: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// Goes to the next line; false at the end.
    fn advance(&mut self) -> Result<bool, IngestError> {
        loop {
            self.line.clear();
            let count = self.inner.by_ref().take(LINE).read_until(b'\n', &mut self.line)? as u64;
            self.number += 1;
            self.bytes += count;
            if count == 0 {
                return Ok(false);
            }
            if count == LINE && !self.line.ends_with(b"\n") {
                let number = self.number;
                return Err(IngestError::Rejected(format!(
                    "line {number} is longer than {LINE} bytes"
                )));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Which key is which field.
pub(super) struct Fields(FastMap<String, Field>);

impl Fields {
    pub(super) fn new(columns: &[String], mapping: &Mapping) -> Self {
        let known = columns.iter().zip(mapping);
        Self(
            known
                .filter_map(|(key, field)| field.map(|field| (key.clone(), field)))
                .collect(),
        )
    }

    /// The values of a line, by field.
    pub(super) fn values<'a>(&self, line: &'a [u8]) -> Result<Values<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let values = (&mut deserializer).deserialize_map(Row(self))?;
        deserializer.end()?;
        Ok(values)
    }
}

struct Row<'f>(&'f Fields);

impl<'de> Visitor<'de> for Row<'_> {
    type Value = Values<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values<'de>, A::Error> {
        let mut values = Values::default();
        while let Some(key) = map.next_key_seed(Key)? {
            match self.0.0.get(key.as_ref()) {
                Some(field) => values[*field as usize] = map.next_value_seed(Scalar)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// A key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(text.to_owned().into())
    }
}

/// A value; lists and objects are named and passed over.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text.as_bytes().into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text.as_bytes().to_vec().into()))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object"))
    }
}
