//! The chart, as Helm renders it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_harness::workspace_root;

use crate::document::Document;
use crate::tool;

/// The chart in this checkout.
#[derive(Debug)]
pub struct Chart {
    folder: PathBuf,
}

/// What it makes of some values.
#[derive(Debug, Deserialize)]
pub struct Rendered {
    /// Every document.
    pub documents: Vec<Document>,
    /// Where documents are not what Kubernetes takes.
    pub mistakes: Vec<String>,
    /// Kinds that are not Kubernetes' own.
    pub foreign: Vec<String>,
    /// What `helm lint` warns of.
    pub lint: Vec<String>,
}

impl Chart {
    /// Finds it.
    pub fn find() -> Self {
        Self {
            folder: workspace_root().join("infra/kubernetes/tidegate"),
        }
    }

    /// Renders it with a file of values as release `tidegate` in namespace `ml`; an error says why Helm refuses.
    pub fn render(&self, values: &str) -> Result<Rendered> {
        let asked = json!({ "chart": self.folder, "values": values, "name": "tidegate", "namespace": "ml" });
        let answer = tool::ask("chart.py", &asked.to_string())?;
        if let Some(refused) = answer["refused"].as_str() {
            bail!("{refused}");
        }
        Ok(serde_json::from_value(answer)?)
    }
}

impl Rendered {
    /// Every document of a kind.
    pub fn all<'r>(&'r self, kind: &'r str) -> impl Iterator<Item = &'r Document> {
        self.documents
            .iter()
            .filter(move |document| document.kind() == kind)
    }

    /// Whether there is a document of a kind with a name.
    pub fn has(&self, kind: &str, name: &Value) -> bool {
        self.all(kind)
            .any(|document| Some(document.name()) == name.as_str())
    }
}
