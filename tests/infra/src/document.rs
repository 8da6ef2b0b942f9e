//! One document for Kubernetes, and the pods of a workload.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The items of a list; none where there is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A document.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Document {
    /// All of it.
    pub value: Value,
}

/// The pods that a workload makes.
#[derive(Debug)]
pub struct Pods<'d> {
    /// The workload's name.
    pub of: &'d str,
    /// Their labels.
    pub labels: &'d Map<String, Value>,
    /// What they are.
    pub spec: &'d Value,
}

impl Document {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// What is specified.
    pub fn spec(&self) -> &Value {
        &self.value["spec"]
    }

    /// The pods of a workload.
    pub fn pods(&self) -> Result<Pods<'_>> {
        let template = &self.spec()["template"];
        Ok(Pods {
            of: self.name(),
            labels: template["metadata"]["labels"].as_object().context("no labels")?,
            spec: &template["spec"],
        })
    }
}

impl Pods<'_> {
    /// Whether a selector, by labels that have to be the same, finds them. An empty one finds everything.
    pub fn are_found_by(&self, labels: &Value) -> bool {
        let wanted = labels.as_object().into_iter().flatten();
        wanted
            .into_iter()
            .all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Their containers, sidecars among them.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|which| list(&self.spec[which]))
    }

    /// The containers' ports.
    pub fn ports(&self) -> impl Iterator<Item = &Value> {
        self.containers().flat_map(|container| list(&container["ports"]))
    }
}
