//! Walking a parsed TOML tree: every value is taken by name, every mistake kept with its line.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistake;

/// A value with its line.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A TOML value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
    Other(String),
}

impl Value {
    /// The value as a message shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Integer(number) => format!("`{number}`"),
            Self::Float(number) => format!("`{number}`"),
            Self::Boolean(truth) => format!("`{truth}`"),
            Self::Array(_) => "an array".into(),
            Self::Table(_) => "a table".into(),
            Self::Other(text) => format!("`{text}`"),
        }
    }
}

/// A text as a message shows it: on one line, and not all of a long one.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let start: String = text.chars().take(LONGEST).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", start.escape_debug())
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<Vec<Mistake>>);

impl Notes {
    pub(super) fn add(&self, path: &str, line: usize, message: impl Into<String>) {
        self.0
            .borrow_mut()
            .push(Mistake::new(path.to_owned(), Some(line), message.into()));
    }

    pub(super) fn into_list(self) -> Vec<Mistake> {
        self.0.into_inner()
    }
}

/// Parses the text; errors of syntax, all of them, hide other mistakes.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mistake = |error: &toml::de::Error| {
            let line = error.span().map(|span| line_of(text, span.start));
            Mistake::new(String::new(), line, format!("not TOML: {}", error.message()))
        };
        return Err(errors.iter().map(mistake).collect());
    }
    let line = line_of(text, table.span().start);
    Ok(Node {
        line,
        value: Value::Table(entries(text, table.get_ref())),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn entries(text: &str, table: &DeTable<'_>) -> BTreeMap<String, Node> {
    let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let line = line_of(text, key.span().start);
        (
            key.get_ref().to_string(),
            Node {
                line,
                value: convert(text, value.get_ref()),
            },
        )
    };
    table.iter().map(entry).collect()
}

fn convert(text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(value) => Value::Text(value.to_string()),
        DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_too_large) => Value::Other(value.as_str().to_owned()),
        },
        DeValue::Float(value) => value
            .as_str()
            .parse()
            .map_or_else(|_| Value::Other(value.to_string()), Value::Float),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Other(value.to_string()),
        DeValue::Array(values) => Value::Array(
            values
                .iter()
                .map(|value| Node {
                    line: line_of(text, value.span().start),
                    value: convert(text, value.get_ref()),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(text, table)),
    }
}

/// The entries of one table, taken one by one; what is left over at the end is unknown.
pub(super) struct Fields<'n> {
    notes: &'n Notes,
    pub(super) path: String,
    pub(super) line: usize,
    entries: BTreeMap<String, Node>,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The entries of a node, which should be a table.
    pub(super) fn of(notes: &'n Notes, path: &str, node: Node) -> Self {
        let line = node.line;
        let entries = match node.value {
            Value::Table(entries) => entries,
            other => {
                notes.add(path, line, format!("found {}, expected a table", other.shown()));
                BTreeMap::new()
            }
        };
        Self {
            notes,
            path: path.to_owned(),
            line,
            entries,
            known: Vec::new(),
        }
    }

    /// The path of a key.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Notes a mistake about the table itself.
    pub(super) fn note(&self, message: impl Into<String>) {
        self.notes.add(&self.path, self.line, message);
    }

    /// Takes a value as it is.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        self.entries.remove(key)
    }

    /// Takes every entry that is left: a table of free names.
    pub(super) fn take_all(&mut self) -> BTreeMap<String, Node> {
        std::mem::take(&mut self.entries)
    }

    /// Takes a table; an empty one where there is none.
    pub(super) fn table(&mut self, key: &'static str) -> Fields<'n> {
        let path = self.at(key);
        let node = self.take(key).unwrap_or(Node {
            line: self.line,
            value: Value::Table(BTreeMap::new()),
        });
        Fields::of(self.notes, &path, node)
    }

    /// Takes a value that `read` understands; `expected` says what that is.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let node = self.take(key)?;
        let found = read(&node.value);
        if found.is_none() {
            self.notes.add(
                &self.at(key),
                node.line,
                format!("found {}, expected {expected}", node.value.shown()),
            );
        }
        found
    }

    /// Takes a text that `read` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.value(key, expected, |value| match value {
            Value::Text(text) => read(text),
            _ => None,
        })
    }

    /// Takes a text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, "a string", |text| Some(text.to_owned()))
    }

    /// Takes a text that must be there.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        expected: &str,
        valid: impl FnOnce(&str) -> bool,
    ) -> Option<String> {
        self.require(key, expected);
        self.parsed(key, expected, |text| valid(text).then(|| text.to_owned()))
    }

    /// Notes that a value is missing, where it is.
    pub(super) fn require(&self, key: &'static str, expected: &str) {
        if !self.entries.contains_key(key) {
            self.note(format!("`{key}` is missing, expected {expected}"));
        }
    }

    /// Whether nothing is left to take.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a whole number within a range.
    pub(super) fn number(&mut self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, &expected, |value| match value {
            Value::Integer(number) => u64::try_from(*number)
                .ok()
                .filter(|number| range.contains(number)),
            _ => None,
        })
    }

    /// Takes a list of texts; each is read by `read`, whose error says what is wrong.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let path = self.at(key);
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let Value::Array(items) = node.value else {
            self.notes.add(
                &path,
                node.line,
                format!("found {}, expected an array of strings", node.value.shown()),
            );
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, item) in items.into_iter().enumerate() {
            let read = match &item.value {
                Value::Text(text) if !seen.insert(text.clone()) => {
                    Err(format!("found {} twice", quoted(text)))
                }
                Value::Text(text) => read(text),
                other => Err(format!("found {}, expected a string", other.shown())),
            };
            match read {
                Ok(value) => found.push(value),
                Err(message) => self.notes.add(&format!("{path}[{index}]"), item.line, message),
            }
        }
        found
    }

    /// Notes what nobody took.
    pub(super) fn finish(self) {
        for (key, node) in &self.entries {
            let known = self
                .known
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ");
            let meant = nearest(key, &self.known)
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            self.notes.add(
                &self.at(key),
                node.line,
                format!("unknown key, allowed are {known}{meant}"),
            );
        }
    }
}

/// The known name within an edit distance of 2.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known
        .iter()
        .map(|name| (distance(key, name), *name))
        .min_by_key(|(distance, _)| *distance)?;
    (near.0 <= 2).then_some(near.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
