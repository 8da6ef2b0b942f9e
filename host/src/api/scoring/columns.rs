//! What a request of MLflow's protocol holds: columns by their names, or one value for a model's only input.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::error::ApiError;

/// The four forms of JSON.
const FORMS: [&str; 4] = ["dataframe_split", "dataframe_records", "instances", "inputs"];

/// What was asked.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// Lists by their names, each with one entry for each row, in the order of the request.
    Columns(Vec<(String, Vec<Value>)>),
    /// A list, the rows of a model's only input.
    Rows(Vec<Value>),
}

impl Asked {
    /// Reads a body of a media type.
    pub(super) fn read(kind: &str, body: &Bytes) -> Result<Self, ApiError> {
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => Self::json(body),
            "text/csv" => Self::csv(body),
            other => Err(ApiError::new(
                http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("`content-type` is `{other}`, allowed are `application/json` and `text/csv`"),
            )),
        }
    }

    fn json(body: &Bytes) -> Result<Self, ApiError> {
        let parsed: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the request is no object of JSON: {error}")))?;
        let mut forms = parsed.into_iter().filter(|(name, _)| name != "params");
        let allowed = FORMS.join("`, `");
        let wrong = |found: &str| ApiError::bad(format!("found {found}, expected one of `{allowed}`"));
        match (forms.next(), forms.next()) {
            (Some((form, value)), None) => match form.as_str() {
                "dataframe_split" => split(value),
                "dataframe_records" => records(value, &form),
                "instances" | "inputs" => tensors(value, &form),
                other => Err(wrong(&format!("`{other}`"))),
            },
            (None, _) => Err(wrong("nothing")),
            (Some((one, _)), Some((other, _))) => Err(wrong(&format!("`{one}` and `{other}`"))),
        }
    }

    fn csv(body: &Bytes) -> Result<Self, ApiError> {
        let bad = |error: csv::Error| ApiError::bad(format!("the body is no CSV: {error}"));
        let mut reader = csv::Reader::from_reader(body.as_ref());
        let names = reader.headers().map_err(bad)?.clone();
        let mut columns: Vec<(String, Vec<Value>)> =
            names.iter().map(|name| (name.to_owned(), Vec::new())).collect();
        for record in reader.records() {
            let record = record.map_err(bad)?;
            for ((_, column), text) in columns.iter_mut().zip(record.iter()) {
                // A number, `true` or `false` where it reads as such, else a text.
                let value = serde_json::from_str(text)
                    .ok()
                    .filter(|value: &Value| !value.is_array() && !value.is_object());
                column.push(value.unwrap_or_else(|| text.into()));
            }
        }
        Ok(Self::Columns(columns))
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    columns: Vec<String>,
    data: Vec<Vec<Value>>,
    #[serde(default, rename = "index")]
    _index: Option<Vec<Value>>,
}

fn split(value: Value) -> Result<Asked, ApiError> {
    let split: Split = serde_json::from_value(value)
        .map_err(|error| ApiError::bad(format!("`dataframe_split`: {error}")))?;
    let wide = split.columns.len();
    let mut columns: Vec<(String, Vec<Value>)> =
        split.columns.into_iter().map(|name| (name, Vec::new())).collect();
    for (at, row) in split.data.into_iter().enumerate() {
        if row.len() != wide {
            let found = row.len();
            return Err(ApiError::bad(format!(
                "`dataframe_split.data[{at}]` has {found} values, and there are {wide} columns"
            )));
        }
        for ((_, column), value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    Ok(Asked::Columns(columns))
}

/// Rows as objects, each with the same names.
fn records(value: Value, form: &str) -> Result<Asked, ApiError> {
    let rows: Vec<Map<String, Value>> =
        serde_json::from_value(value).map_err(|error| ApiError::bad(format!("`{form}`: {error}")))?;
    let names: Vec<String> = rows.first().into_iter().flat_map(Map::keys).cloned().collect();
    let mut columns: Vec<(String, Vec<Value>)> = names.into_iter().map(|name| (name, Vec::new())).collect();
    for (at, mut row) in rows.into_iter().enumerate() {
        let wide = row.len();
        for (name, column) in &mut columns {
            let value = row.remove(name);
            let missing =
                || ApiError::bad(format!("`{form}[{at}]` has no `{name}`, which the first row has"));
            column.push(value.ok_or_else(missing)?);
        }
        if let Some(name) = row.keys().next() {
            return Err(ApiError::bad(format!(
                "`{form}[{at}]` has {wide} names, the first row has no `{name}`"
            )));
        }
    }
    Ok(Asked::Columns(columns))
}

fn tensors(value: Value, form: &str) -> Result<Asked, ApiError> {
    match value {
        Value::Array(rows) if rows.first().is_some_and(Value::is_object) => records(Value::Array(rows), form),
        Value::Array(rows) => Ok(Asked::Rows(rows)),
        Value::Object(named) => {
            let column = |(name, value): (String, Value)| match value {
                Value::Array(rows) => Ok((name, rows)),
                found => Err(ApiError::bad(format!(
                    "`{form}.{name}` is `{found}`, expected a list"
                ))),
            };
            named
                .into_iter()
                .map(column)
                .collect::<Result<_, _>>()
                .map(Asked::Columns)
        }
        found => Err(ApiError::bad(format!(
            "`{form}` is `{found}`, expected a list or an object of lists"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: &str, text: &str) -> Result<Asked, String> {
        Asked::read(kind, &Bytes::copy_from_slice(text.as_bytes())).map_err(|error| error.message)
    }

    #[test]
    fn the_same_rows_are_read_in_every_form() {
        let columns = Asked::Columns(vec![
            ("a".into(), vec![json!(1), json!(2)]),
            ("b".into(), vec![json!("x"), json!("y")]),
        ]);
        for text in [
            r#"{"dataframe_split":{"columns":["a","b"],"index":[0,1],"data":[[1,"x"],[2,"y"]]}}"#,
            r#"{"dataframe_records":[{"a":1,"b":"x"},{"b":"y","a":2}]}"#,
            r#"{"instances":[{"a":1,"b":"x"},{"a":2,"b":"y"}]}"#,
            r#"{"inputs":{"a":[1,2],"b":["x","y"]},"params":{}}"#,
        ] {
            assert_eq!(
                read("application/json; charset=utf-8", text).as_ref(),
                Ok(&columns),
                "{text}"
            );
        }
        assert_eq!(read("text/csv", "a,b\n1,x\n2,y\n"), Ok(columns));
        assert_eq!(
            read("application/json", r#"{"inputs":[[1,2]]}"#),
            Ok(Asked::Rows(vec![json!([1, 2])]))
        );
    }

    #[test]
    fn what_is_no_form_is_told() {
        for (kind, text, said) in [
            ("application/json", "[]", "no object of JSON"),
            (
                "application/json",
                "{}",
                "found nothing, expected one of `dataframe_split`",
            ),
            (
                "application/json",
                r#"{"inputs":[],"instances":[]}"#,
                "found `inputs` and `instances`",
            ),
            ("application/json", r#"{"rows":[]}"#, "found `rows`, expected"),
            (
                "application/json",
                r#"{"dataframe_split":{"columns":["a"],"data":[[1,2]]}}"#,
                "`dataframe_split.data[0]` has 2 values, and there are 1 columns",
            ),
            (
                "application/json",
                r#"{"dataframe_records":[{"a":1},{"b":1}]}"#,
                "[1]` has no `a`",
            ),
            ("application/json", r#"{"inputs":7}"#, "`inputs` is `7`"),
            ("text/csv", "a,b\n1\n", "the body is no CSV"),
            ("image/png", "", "`content-type` is `image/png`"),
        ] {
            let error = read(kind, text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
