//! Variants of an app's manifest, for tests that want another size of the same thing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, Value};

/// A manifest that can be changed before a host reads it.
#[derive(Debug, Clone)]
pub struct Manifest {
    table: Table,
}

impl Manifest {
    /// Reads a manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Self {
            table: text
                .parse()
                .with_context(|| format!("`{}` is no TOML", path.display()))?,
        })
    }

    /// The feed-ranking app's own.
    pub fn feed_ranking() -> Result<Self> {
        Self::read(&crate::workspace_root().join("functions/feed-ranking/tidegate.toml"))
    }

    /// Sets a variable of one function.
    pub fn variable(mut self, function: &str, name: &str, value: &str) -> Result<Self> {
        let table = self
            .function(function)
            .with_context(|| format!("no function `{function}`"))?;
        let variables = table
            .entry("variables")
            .or_insert_with(|| Value::Table(Table::new()));
        let variables = variables
            .as_table_mut()
            .with_context(|| format!("`{function}` has odd variables"))?;
        variables.insert(name.to_owned(), Value::String(value.to_owned()));
        Ok(self)
    }

    /// Adds a function, given as the inside of its `[[function]]`.
    pub fn with_function(mut self, text: &str) -> Result<Self> {
        let function: Table = text.parse().context("the function is no TOML")?;
        let functions = self.table.get_mut("function").and_then(Value::as_array_mut);
        functions
            .context("the manifest has no functions")?
            .push(Value::Table(function));
        Ok(self)
    }

    /// Writes it to a file, for a host to read.
    pub fn write(&self, path: &Path) -> Result<PathBuf> {
        std::fs::write(path, self.table.to_string())
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path.to_path_buf())
    }

    fn function(&mut self, name: &str) -> Option<&mut Table> {
        let functions = self.table.get_mut("function")?.as_array_mut()?;
        functions
            .iter_mut()
            .filter_map(Value::as_table_mut)
            .find(|table| table.get("name").and_then(Value::as_str) == Some(name))
    }
}
