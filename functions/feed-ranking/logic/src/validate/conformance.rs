//! The expectations held against Great Expectations' own test cases, where the folder with them is at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Cell, Expectation, Severity, compile};

/// What the shipped cases must at least come to.
const CASES: usize = 150;

#[test]
fn expectations_agree_with_the_test_cases_of_great_expectations() {
    let Some(folder) = folder() else { return };
    let mut tally = Tally::default();
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .for_each(|path| file(path, &mut tally));
    eprintln!("{} cases agree, left out are {:#?}", tally.agreed, tally.left_out);
    assert!(tally.differences.is_empty(), "{}", tally.differences.join("\n"));
    assert!(tally.agreed >= CASES, "only {} cases were tried", tally.agreed);
}

#[derive(Default)]
struct Tally {
    agreed: usize,
    differences: Vec<String>,
    left_out: BTreeMap<String, usize>,
}

fn folder() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared");
    let shared = std::env::var("TIDEGATE_SHARED").unwrap_or_else(|_| default.into());
    Some(PathBuf::from(shared).join("data/gx-test-definitions")).filter(|folder| folder.is_dir())
}

fn file(path: &Path, tally: &mut Tally) {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text
        .replace("-Infinity", "-1e999")
        .replace("Infinity", "1e999")
        .replace("NaN", "null");
    let Ok(file) = serde_json::from_str::<Value>(&text) else {
        return left_out(tally, "not JSON");
    };
    let kind = file["expectation_type"].as_str().unwrap_or_default();
    for dataset in file["datasets"].as_array().into_iter().flatten() {
        let Some(data) = dataset["data"].as_object() else {
            continue;
        };
        for test in dataset["tests"].as_array().into_iter().flatten() {
            case(kind, data, &dataset["schemas"]["pandas"], test, tally);
        }
    }
}

fn left_out(tally: &mut Tally, reason: &str) {
    *tally.left_out.entry(reason.to_owned()).or_default() += 1;
}

fn case(kind: &str, data: &Map<String, Value>, schema: &Value, test: &Value, tally: &mut Tally) {
    let names = |field: &str| -> Vec<String> {
        test[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    let (only, suppressed) = (names("only_for"), names("suppress_test_for"));
    if (!only.is_empty() && !only.iter().any(|name| name == "pandas"))
        || suppressed.iter().any(|name| name == "pandas")
    {
        return left_out(tally, "for another engine");
    }
    if test["out"]["success"].is_null()
        || test["in"]["catch_exceptions"] == true && test["out"].get("traceback_substring").is_some()
    {
        return left_out(tally, "an exception is wanted");
    }
    let kwargs = match serde_json::from_value(test["in"].clone()) {
        Ok(kwargs) => kwargs,
        Err(_) => return left_out(tally, "arguments of other types"),
    };
    let expectation = Expectation {
        kind: kind.into(),
        kwargs,
        severity: Severity::Critical,
        meta: Value::Null,
    };
    let named = expectation
        .kwargs
        .column
        .as_ref()
        .and_then(|name| schema[name].as_str())
        .unwrap_or_default();
    if named.contains("date") || named.contains("timestamp") {
        return left_out(tally, "times as values");
    }
    let columns: Vec<&str> = data.keys().map(String::as_str).collect();
    let mut check = match compile(&expectation, &columns) {
        Ok(check) => check,
        Err(reason) => return left_out(tally, &reason),
    };
    let data = typed(data, schema);
    let rows = data.iter().map(Vec::len).max().unwrap_or(0);
    for at in 0..rows {
        let row: Vec<Cell<'_>> = data
            .iter()
            .map(|column| column.get(at).and_then(Cell::of_json).unwrap_or(Cell::Null))
            .collect();
        check.row(&row);
    }
    compare(kind, test, check.finish(), tally);
}

/// The columns, with numbers as text where the schema says so.
fn typed(data: &Map<String, Value>, schema: &Value) -> Vec<Vec<Value>> {
    let column = |(name, column): (&String, &Value)| {
        let text = schema[name] == "str";
        let value = |value: &Value| match value {
            Value::Number(number) if text => Value::String(number.to_string()),
            other => other.clone(),
        };
        column.as_array().into_iter().flatten().map(value).collect()
    };
    data.iter().map(column).collect()
}

fn compare(kind: &str, test: &Value, found: super::Finding, tally: &mut Tally) {
    let wanted = &test["out"];
    let title = format!("{kind}: {}", test["title"]);
    let mut differences = Vec::new();
    if wanted["success"] != found.success {
        differences.push(format!(
            "{title}: wanted success {}, found {}: {}",
            wanted["success"], found.success, found.words
        ));
    }
    if let Some(list) = wanted["unexpected_list"]
        .as_array()
        .filter(|list| list.len() < 20)
    {
        let sorted = |list: &[Value]| {
            let mut shown: Vec<String> = list.iter().map(shown).collect();
            shown.sort();
            shown
        };
        let partial = found
            .result
            .get("partial_unexpected_list")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if sorted(list) != sorted(&partial) {
            differences.push(format!("{title}: wanted unexpected {list:?}, found {partial:?}"));
        }
    }
    if let Some(observed) = wanted.get("observed_value") {
        let ours = found.result.get("observed_value").unwrap_or(&Value::Null);
        let same = match (observed.as_f64(), ours.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(1.0),
            _ => shown(observed) == shown(ours),
        };
        if !same {
            differences.push(format!("{title}: wanted observed {observed}, found {ours}"));
        }
    }
    if differences.is_empty() {
        tally.agreed += 1
    } else {
        tally.differences.extend(differences)
    }
}

/// A value with its numbers in one form.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("{}", number.as_f64().unwrap_or(f64::NAN)),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| format!("{name}={};", shown(value)))
            .collect(),
        other => other.to_string(),
    }
}
