//! What names, places and types are valid, and what contradicts itself across a manifest.

use std::collections::{BTreeMap, BTreeSet};

use super::grants::{SYSTEM_BUCKETS, is_authority, wrong_key};
use super::walk::{Fields, Notes, quoted};
use super::{BucketPrefix, Function, Trigger};
use crate::store::SYSTEM_PREFIX;
use crate::trigger::INVOKE;

/// Event types that start with this are the platform's to emit.
const SYSTEM_TYPES: &str = "tidegate.";
/// Bytes of a name of a table, a type, a model or a secret: it is part of keys in the store.
const LONGEST_NAME: usize = 255;

/// Whether a text can be the name of an app, a function or an alias.
pub fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// S3's rules for the name of a bucket, without the names that belong to the platform.
pub fn is_bucket(bucket: &str) -> bool {
    let ends = |edge: Option<char>| edge.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (3..=63).contains(&bucket.len())
        && bucket
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && ends(bucket.chars().next())
        && ends(bucket.chars().next_back())
        && !bucket.contains("..")
        && !bucket.starts_with(SYSTEM_BUCKETS)
}

/// Takes what keys start with; nothing where it is not given.
pub(super) fn key_start(fields: &mut Fields<'_>, key: &'static str) -> String {
    let expected = "the start of a key, without a leading `/`, `..`, backslashes and control characters";
    let start = fields.parsed(key, expected, |start| {
        wrong_key(start).is_none().then(|| start.to_owned())
    });
    start.unwrap_or_default()
}

pub(super) fn place(text: &str) -> Result<BucketPrefix, String> {
    let place = text
        .split_once('/')
        .filter(|(bucket, prefix)| is_bucket(bucket) && wrong_key(prefix).is_none());
    let (bucket, prefix) = place.ok_or_else(|| {
        let found = quoted(text);
        format!(
            "found {found}, expected `bucket/prefix`, without `..`, a leading `/`, or a bucket of the platform (`$…`, \
             `{SYSTEM_BUCKETS}…`)"
        )
    })?;
    Ok(BucketPrefix {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

pub(super) fn granted_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with(SYSTEM_PREFIX) || text.chars().any(char::is_control) {
        return Err(format!(
            "found {}, expected a name that does not start with `{SYSTEM_PREFIX}`",
            quoted(text)
        ));
    }
    if text.len() > LONGEST_NAME {
        return Err(format!(
            "found {} of {} bytes, expected a name of up to {LONGEST_NAME}",
            quoted(text),
            text.len()
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn emitted(text: &str) -> Result<String, String> {
    if text.starts_with(SYSTEM_TYPES) {
        return Err(format!(
            "found {}, expected a type outside `{SYSTEM_TYPES}`: those are the platform's",
            quoted(text)
        ));
    }
    granted_name(text)
}

pub(super) fn model(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err(format!(
            "found {}, expected a model's name without `@`: it covers every version",
            quoted(text)
        ));
    }
    granted_name(text)
}

pub(super) fn host(text: &str) -> Result<String, String> {
    if !is_authority(text) {
        return Err(format!(
            "found {}, expected `host` or `host:port`, without `https://` and `*`",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// Whether no function can subscribe to the type.
pub(super) fn reserved_type(kind: &str) -> bool {
    kind == INVOKE
}

/// Names that are taken twice, routes that answer the same requests, records of routes that are not there.
pub(super) fn contradictions(notes: &Notes, table: &str, functions: &[(Function, usize)]) {
    let mut names = BTreeSet::new();
    let mut routes: BTreeMap<&str, matchit::Router<&str>> = BTreeMap::new();
    for (function, line) in functions {
        let path = format!("{table}.{}", function.name);
        if !function.name.is_empty() && !names.insert(&function.name) {
            notes.add(
                &path,
                *line,
                format!(
                    "two functions are named `{}`, expected unique names",
                    function.name
                ),
            );
        }
        for trigger in &function.triggers {
            let Trigger::Http { method, route } = trigger else {
                continue;
            };
            let method = method.as_deref().unwrap_or("*");
            let table = routes.entry(method).or_default();
            if table.insert(route.clone(), &function.name).is_err() {
                let by = table
                    .at(route)
                    .map_or_else(|_| "another".to_owned(), |taken| format!("`{}`", taken.value));
                let message =
                    format!("route `{method} {route}` is taken by function {by}, expected routes of its own");
                notes.add(&format!("{path}.trigger"), *line, message);
            }
        }
        unknown_records(notes, &path, *line, function);
        let answers = function.triggers.iter().any(|trigger| trigger.route().is_some());
        if answers && function.key.is_some() {
            let message = "found a key, but the function has http triggers: requests have none";
            notes.add(&format!("{path}.key"), *line, message);
        }
    }
}

fn unknown_records(notes: &Notes, path: &str, line: usize, function: &Function) {
    let Some(record) = &function.record else { return };
    let routes: BTreeSet<&str> = function.triggers.iter().filter_map(Trigger::route).collect();
    if routes.is_empty() {
        notes.add(
            &format!("{path}.record"),
            line,
            "found a record, but the function has no http trigger",
        );
        return;
    }
    let shown = routes
        .iter()
        .map(|route| format!("`{route}`"))
        .collect::<Vec<_>>()
        .join(", ");
    for (index, route) in record
        .routes
        .iter()
        .enumerate()
        .filter(|(_, route)| !routes.contains(route.as_str()))
    {
        let message = format!(
            "found {}, expected a route of the function: {shown}",
            quoted(route)
        );
        notes.add(&format!("{path}.record.routes[{index}]"), line, message);
    }
}
