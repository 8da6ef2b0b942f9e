//! Values in Terraform's language, laid out as `terraform fmt` would.

use toml::{Table, Value};

/// Columns of a value that stands on one line.
const WIDTH: usize = 110;
/// Spaces of one step.
const STEP: usize = 2;
/// Words that begin something else than a key.
const RESERVED: [&str; 4] = ["for", "null", "true", "false"];

/// A file with one local value.
pub(super) fn local(name: &str, value: Table) -> String {
    let value = items(&value, 2 * STEP);
    format!(
        "# Written by `tidegate export terraform`.\n\nlocals {{\n  {} = {{\n{value}  }}\n}}\n",
        key(name)
    )
}

/// The items of an object, a line each, or more where one does not fit. As `fmt` has it, the signs of lines that follow
/// each other stand below each other; what takes several lines stands for itself.
fn items(table: &Table, indent: usize) -> String {
    let mut text = String::new();
    let mut run: Vec<(String, String)> = Vec::new();
    for (name, value) in table {
        let name = key(name);
        match inline(value).filter(|inline| indent + name.len() + 3 + inline.len() <= WIDTH) {
            Some(inline) => run.push((name, inline)),
            None => {
                text.push_str(&aligned(&mut run, indent));
                text.push_str(&format!("{:indent$}{name} = {}\n", "", block(value, indent)));
            }
        }
    }
    text.push_str(&aligned(&mut run, indent));
    text
}

fn aligned(run: &mut Vec<(String, String)>, indent: usize) -> String {
    let widest = run
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let lines = run.drain(..);
    lines
        .map(|(name, value)| format!("{:indent$}{name:widest$} = {value}\n", ""))
        .collect()
}

/// A value over several lines; what cannot be broken is on one, however long it is.
fn block(value: &Value, indent: usize) -> String {
    let within = indent + STEP;
    match value {
        Value::Table(table) => format!("{{\n{}{:indent$}}}", items(table, within), ""),
        Value::Array(values) => {
            let entry = |value: &Value| {
                let fits = inline(value).filter(|inline| within + inline.len() < WIDTH);
                let shown = fits.unwrap_or_else(|| block(value, within));
                format!("{:within$}{shown},\n", "")
            };
            let entries: String = values.iter().map(entry).collect();
            format!("[\n{entries}{:indent$}]", "")
        }
        scalar => scalar_of(scalar),
    }
}

/// A value on one line; an object with more than a few items is better read on several.
fn inline(value: &Value) -> Option<String> {
    const MOST: usize = 4;
    match value {
        Value::Table(table) if table.is_empty() => Some("{}".to_owned()),
        Value::Table(table) if table.len() > MOST => None,
        Value::Table(table) => {
            let item = |(name, value): (&String, &Value)| Some(format!("{} = {}", key(name), inline(value)?));
            let items: Option<Vec<_>> = table.iter().map(item).collect();
            Some(format!("{{ {} }}", items?.join(", ")))
        }
        Value::Array(values) => {
            let entries: Option<Vec<_>> = values.iter().map(inline).collect();
            Some(format!("[{}]", entries?.join(", ")))
        }
        scalar => Some(scalar_of(scalar)),
    }
}

fn scalar_of(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn key(name: &str) -> String {
    let first = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let rest = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if first && rest && !RESERVED.contains(&name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A text in quotes, in which nothing is a template.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '$' | '%' if chars.peek() == Some(&'{') => {
                quoted.push(c);
                quoted.push(c);
            }
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_written_as_fmt_would() {
        let manifest = r#"
            [app]
            name = "clicks"
            [[function]]
            name = "ingest"
            component = "clicks_ingest.wasm"
            trigger = [{ object = { bucket = "data", prefix = "raw/" } }]
            retry = { factor = 1.5, jitter = false }
            variables = { "column.id" = "${id}", a = "1", b = "2", c = "3", d = "say \"so\"" }
        "#;
        let shown = local("clicks", manifest.parse().unwrap());
        let expected = r#"# Written by `tidegate export terraform`.

locals {
  clicks = {
    app = { name = "clicks" }
    function = [
      {
        name      = "ingest"
        component = "clicks_ingest.wasm"
        trigger   = [{ object = { bucket = "data", prefix = "raw/" } }]
        retry     = { factor = 1.5, jitter = false }
        variables = {
          "column.id" = "$${id}"
          a           = "1"
          b           = "2"
          c           = "3"
          d           = "say \"so\""
        }
      },
    ]
  }
}
"#;
        assert_eq!(shown, expected);
    }
}
