//! Takes keys out of a table, gathers mistakes, and refuses what nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::units::{parse_bytes, parse_duration};

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistakes {
    file: String,
    mistakes: Vec<String>,
}

impl ConfigMistakes {
    pub(super) fn new(file: &str, mistakes: Vec<String>) -> Self {
        Self {
            file: file.to_owned(),
            mistakes,
        }
    }
}

impl std::fmt::Display for ConfigMistakes {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self
            .mistakes
            .iter()
            .map(|mistake| format!("{}: {mistake}", self.file))
            .collect();
        to.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigMistakes {}

/// A table from which each key is asked for once, by its dotted path.
pub(super) struct Reader {
    table: toml::Table,
    asked: BTreeSet<String>,
    mistakes: Vec<String>,
}

impl Reader {
    pub(super) fn new(table: toml::Table) -> Self {
        Self {
            table,
            asked: BTreeSet::new(),
            mistakes: Vec::new(),
        }
    }

    pub(super) fn finish(mut self, file: &str) -> Result<(), ConfigMistakes> {
        self.refuse_the_rest();
        if self.mistakes.is_empty() {
            Ok(())
        } else {
            Err(ConfigMistakes::new(file, self.mistakes))
        }
    }

    /// How many keys were asked for.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        match self.take(path)? {
            Value::String(text) if !text.is_empty() => Some(text),
            found => self.wrong(path, &found, "a text that is not empty"),
        }
    }

    /// One of some words; the first where there is none.
    pub(super) fn word(&mut self, path: &str, allowed: &[&'static str]) -> &'static str {
        let default = allowed.first().copied().unwrap_or_default();
        let Some(found) = self.take(path) else {
            return default;
        };
        let known = allowed.iter().find(|word| found.as_str() == Some(**word));
        known.copied().unwrap_or_else(|| {
            let words: Vec<String> = allowed.iter().map(|word| format!("`\"{word}\"`")).collect();
            self.wrong(path, &found, &words.join(" or ")).unwrap_or(default)
        })
    }

    /// Some of some words, in their order; the first alone where there is none.
    pub(super) fn words(&mut self, path: &str, allowed: &[&'static str]) -> Vec<&'static str> {
        let default = allowed.first().copied().into_iter().collect();
        let Some(found) = self.take(path) else {
            return default;
        };
        let known = |word: &Value| {
            allowed
                .iter()
                .copied()
                .find(|known| word.as_str() == Some(*known))
        };
        let listed = found.as_array().filter(|list| !list.is_empty());
        let words = listed.and_then(|list| list.iter().map(known).collect::<Option<Vec<_>>>());
        words.unwrap_or_else(|| {
            let words: Vec<String> = allowed.iter().map(|word| format!("`\"{word}\"`")).collect();
            let expected = format!("a list of {}", words.join(", "));
            self.wrong(path, &found, &expected).unwrap_or(default)
        })
    }

    /// A text that has to be there.
    pub(super) fn needed(&mut self, path: &str, why: &str) -> String {
        let present = self.has(path);
        let text = self.text(path);
        if !present {
            self.mistakes.push(format!("`{path}` is missing: {why}"));
        }
        text.unwrap_or_default()
    }

    /// A text that is nobody else's business: as it is, or in the file that the key with `_file` names.
    pub(super) fn secret(&mut self, path: &str) -> Option<String> {
        let named = format!("{path}_file");
        if self.has(path) && self.has(&named) {
            self.mistakes.push(format!(
                "`{path}` and `{named}` are both set, expected one of them"
            ));
        }
        let text = self.text(path);
        match self.path(&named) {
            Some(file) => self.content(&named, &file),
            None => text,
        }
    }

    /// What a file holds, without the end of its last line.
    fn content(&mut self, path: &str, file: &Path) -> Option<String> {
        let why = match std::fs::read_to_string(file) {
            Ok(text) if text.trim_end().is_empty() => "is empty".to_owned(),
            Ok(text) => return Some(text.trim_end().to_owned()),
            Err(error) => format!("cannot be read: {error}"),
        };
        self.mistakes
            .push(format!("`{path}`: `{}` {why}", file.display()));
        None
    }

    pub(super) fn has(&self, path: &str) -> bool {
        let found = match path.split_once('.') {
            None => self.table.get(path),
            Some((section, key)) => self.table.get(section).and_then(|section| section.get(key)),
        };
        found.is_some()
    }

    /// A text that says by itself what is wrong with it.
    pub(super) fn parsed<T: FromStr<Err = String>>(&mut self, path: &str) -> Option<T> {
        let parsed = self.text(path)?.parse();
        parsed
            .map_err(|error| self.mistakes.push(format!("`{path}`: {error}")))
            .ok()
    }

    pub(super) fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.text(path).map(Into::into)
    }

    /// Files that are of use only together: all of them, or none.
    pub(super) fn together<const N: usize>(&mut self, paths: [&str; N]) -> Option<[PathBuf; N]> {
        let present = paths.map(|path| self.has(path));
        let files = paths.map(|path| self.path(path));
        for (missing, _) in paths.iter().zip(present).filter(|(_, present)| !present) {
            if let Some((there, _)) = paths.iter().zip(present).find(|(_, present)| *present) {
                self.mistakes
                    .push(format!("`{missing}` is missing: `{there}` is set"));
            }
        }
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        files.try_into().ok()
    }

    pub(super) fn texts(&mut self, path: &str) -> Vec<String> {
        let Some(found) = self.take(path) else {
            return Vec::new();
        };
        let texts = found
            .as_array()
            .map(|list| list.iter().map(|item| item.as_str().map(str::to_owned)));
        match texts.and_then(Iterator::collect) {
            Some(texts) => texts,
            None => self.wrong(path, &found, "a list of texts").unwrap_or_default(),
        }
    }

    pub(super) fn flag(&mut self, path: &str, default: bool) -> bool {
        match self.take(path) {
            None => default,
            Some(Value::Boolean(flag)) => flag,
            Some(found) => self.wrong(path, &found, "`true` or `false`").unwrap_or(default),
        }
    }

    pub(super) fn count(&mut self, path: &str, default: usize, allowed: RangeInclusive<usize>) -> usize {
        let Some(found) = self.take(path) else {
            return default;
        };
        let count = found.as_integer().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| allowed.contains(count)) {
            Some(count) => count,
            None => {
                let expected = format!("a number from {} to {}", allowed.start(), allowed.end());
                self.wrong(path, &found, &expected).unwrap_or(default)
            }
        }
    }

    /// A table of free names, each with a program and its arguments.
    pub(super) fn commands(&mut self, path: &str) -> BTreeMap<String, Vec<String>> {
        let table = match self.take(path) {
            None => return BTreeMap::new(),
            Some(Value::Table(table)) => table,
            Some(found) => {
                return self
                    .wrong(path, &found, "a table of commands")
                    .unwrap_or_default();
            }
        };
        let mut commands = BTreeMap::new();
        for (name, found) in table {
            let words = found.as_array().map(|words| words.iter().map(Value::as_str));
            let words: Option<Vec<String>> =
                words.and_then(|words| words.map(|word| word.map(str::to_owned)).collect());
            match words.filter(|words| !words.is_empty()) {
                Some(words) => _ = commands.insert(name, words),
                None => {
                    let expected =
                        "a list of a program and its arguments, such as `[\"python3\", \"/opt/fit.py\"]`";
                    self.wrong::<()>(&format!("{path}.{name}"), &found, expected);
                }
            }
        }
        commands
    }

    /// A table of free names, each with a whole number.
    pub(super) fn numbers<T>(&mut self, path: &str, allowed: RangeInclusive<T>) -> BTreeMap<String, T>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let table = match self.take(path) {
            None => return BTreeMap::new(),
            Some(Value::Table(table)) => table,
            Some(found) => return self.wrong(path, &found, "a table of numbers").unwrap_or_default(),
        };
        let mut numbers = BTreeMap::new();
        for (name, found) in table {
            let number = found.as_integer().and_then(|number| T::try_from(number).ok());
            match number.filter(|number| allowed.contains(number)) {
                Some(number) => _ = numbers.insert(name, number),
                None => {
                    let expected = format!("a number from {} to {}", allowed.start(), allowed.end());
                    self.wrong::<()>(&format!("{path}.{name}"), &found, &expected);
                }
            }
        }
        numbers
    }

    /// Reads each of the tables below a path.
    pub(super) fn tables<T>(&mut self, path: &str, read: impl Fn(&mut Self) -> T) -> BTreeMap<String, T> {
        let tables = match self.take(path) {
            None => return BTreeMap::new(),
            Some(Value::Table(tables)) => tables,
            Some(found) => return self.wrong(path, &found, "a table of tables").unwrap_or_default(),
        };
        let mut all = BTreeMap::new();
        for (name, found) in tables {
            let at = format!("{path}.{name}");
            let Value::Table(table) = found else {
                self.wrong::<()>(&at, &found, &format!("a table `[{at}]`"));
                continue;
            };
            let mut inner = Self::new(table);
            all.insert(name, read(&mut inner));
            inner.refuse_the_rest();
            // Each begins with its path.
            let told = inner.mistakes.into_iter();
            self.mistakes
                .extend(told.map(|mistake| mistake.replacen('`', &format!("`{at}."), 1)));
        }
        all
    }

    /// Notes what only the caller sees.
    pub(super) fn refuse(&mut self, mistake: String) {
        self.mistakes.push(mistake);
    }

    pub(super) fn address(&mut self, path: &str, default: SocketAddr) -> SocketAddr {
        let Some(found) = self.take(path) else {
            return default;
        };
        match found.as_str().and_then(|text| text.parse().ok()) {
            Some(address) => address,
            None => self
                .wrong(path, &found, "an address such as `127.0.0.1:8080`")
                .unwrap_or(default),
        }
    }

    pub(super) fn duration(&mut self, path: &str, default: &str, allowed: (&str, &str)) -> Duration {
        self.measure(path, default, allowed, "a duration", |value| {
            parse_duration(value.as_str()?)
        })
    }

    pub(super) fn bytes(&mut self, path: &str, default: &str, allowed: (&str, &str)) -> u64 {
        self.measure(path, default, allowed, "a size", |value| match value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            value => parse_bytes(value.as_str()?),
        })
    }

    fn measure<T: PartialOrd + Copy + Default>(
        &mut self,
        path: &str,
        default: &str,
        (least, most): (&str, &str),
        what: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let constant = |text: &str| parse(&Value::String(text.to_owned())).unwrap_or_default();
        let Some(found) = self.take(path) else {
            return constant(default);
        };
        let range = constant(least)..=constant(most);
        match parse(&found).filter(|value| range.contains(value)) {
            Some(value) => value,
            None => {
                self.wrong::<T>(path, &found, &format!("{what} from `{least}` to `{most}`"));
                constant(default)
            }
        }
    }

    fn take(&mut self, path: &str) -> Option<Value> {
        self.asked.insert(path.to_owned());
        match path.split_once('.') {
            None => self.table.remove(path),
            Some((section, key)) => self.table.get_mut(section)?.as_table_mut()?.remove(key),
        }
    }

    fn wrong<T>(&mut self, path: &str, found: &Value, expected: &str) -> Option<T> {
        let secret = path.ends_with("token") || path.ends_with("secret_key");
        let found = if secret {
            "something else".to_owned()
        } else {
            format!("`{found}`")
        };
        self.mistakes
            .push(format!("`{path}` is {found}, expected {expected}"));
        None
    }

    fn refuse_the_rest(&mut self) {
        let sections: BTreeSet<&str> = self
            .asked
            .iter()
            .filter_map(|path| Some(path.split_once('.')?.0))
            .collect();
        for (key, value) in &self.table {
            match value {
                Value::Table(rest) if sections.contains(key.as_str()) => {
                    let unknown = rest.keys().map(|inner| format!("{key}.{inner}"));
                    self.mistakes
                        .extend(unknown.map(|path| unknown_key(&self.asked, &path)));
                }
                _ if sections.contains(key.as_str()) => {
                    self.mistakes
                        .push(format!("`{key}` is `{value}`, expected a table `[{key}]`"));
                }
                _ => self.mistakes.push(unknown_key(&self.asked, key)),
            }
        }
    }
}

fn unknown_key(asked: &BTreeSet<String>, path: &str) -> String {
    let section = path.rsplit_once('.').map(|(section, _)| section);
    let beside = asked
        .iter()
        .filter(|known| known.rsplit_once('.').map(|(section, _)| section) == section);
    let allowed: Vec<String> = beside.map(|known| format!("`{known}`")).collect();
    if allowed.is_empty() {
        return format!("`{path}` is not known");
    }
    format!("`{path}` is not known, allowed are {}", allowed.join(", "))
}
