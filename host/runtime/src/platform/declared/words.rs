//! From what is declared to a manifest: the words of functions, put together as if somebody had written the file.

use serde::Deserialize as _;
use toml::{Table, Value};

use crate::manifest::{LONGEST, Mistakes, is_name};
use crate::platform::apps::{LIVE, Shares};
use crate::store::Declaration;

/// Aliases that one declaration names at most.
const MOST_ALIASES: usize = 16;

/// The table of a function, as it would stand in a manifest.
pub(super) fn table(declared: &Declaration) -> Result<Table, String> {
    let not_json = |error| format!("the words are no JSON object of a `[[function]]`: {error}");
    let mut reader = serde_json::Deserializer::from_str(&declared.words);
    let mut words = Table::deserialize(&mut reader).map_err(not_json)?;
    reader.end().map_err(not_json)?;
    words.insert("name".into(), Value::String(declared.function.clone()));
    let file = format!("{}.wasm", declared.function);
    words.entry("component").or_insert(Value::String(file));
    Ok(words)
}

/// The text of a manifest.
pub(super) fn manifest(app: &str, tenant: Option<&str>, functions: Vec<Table>) -> Result<String, String> {
    let named = |name: &str, value: &str| (name.to_owned(), Value::String(value.to_owned()));
    let head = [
        Some(named("name", app)),
        tenant.map(|tenant| named("tenant", tenant)),
    ];
    let functions = functions.into_iter().map(Value::Table).collect();
    let root = Table::from_iter([
        (
            "app".to_owned(),
            Value::Table(head.into_iter().flatten().collect()),
        ),
        ("function".to_owned(), Value::Array(functions)),
    ]);
    let text = root.to_string();
    if text.len() as u64 > LONGEST {
        return Err(format!(
            "the words of its functions have {} bytes together, allowed are {LONGEST}",
            text.len()
        ));
    }
    Ok(text)
}

/// The shares that a declaration wants for its version.
pub(super) fn shares(declared: &Declaration) -> Result<Shares, String> {
    if declared.aliases.is_empty() {
        return Ok(Shares::new());
    }
    let shares: Shares = serde_json::from_str(&declared.aliases).map_err(|error| {
        format!("the aliases are no JSON object of shares, such as `{{\"{LIVE}\": 10}}`: {error}")
    })?;
    if shares.len() > MOST_ALIASES {
        return Err(format!(
            "found {} aliases, allowed are {MOST_ALIASES}",
            shares.len()
        ));
    }
    match shares
        .iter()
        .find(|(alias, share)| !is_name(alias) || **share > 100)
    {
        None => Ok(shares),
        Some((alias, share)) => Err(format!(
            "found the alias `{alias}` with a share of {share}, expected a name of 1 to 63 lower-case letters, digits, \
             `-` and `_`, and a share of 0 to 100"
        )),
    }
}

/// Mistakes without the lines of a text that nobody has seen.
pub(super) fn told(mistakes: &Mistakes) -> Vec<String> {
    let told = mistakes.list.iter();
    told.map(|mistake| match mistake.path.as_str() {
        "" => mistake.message.clone(),
        path => format!("{path}: {}", mistake.message),
    })
    .collect()
}
