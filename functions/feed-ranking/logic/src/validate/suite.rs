//! A suite of expectations, in the words of Great Expectations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The suite that is used where the object `suites/interactions.json` is missing.
const DEFAULT: &str = include_str!("interactions.json");

/// A suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Suite {
    /// Its name.
    #[serde(alias = "expectation_suite_name")]
    pub name: String,
    /// What is expected.
    pub expectations: Vec<Expectation>,
    /// Anything else that is kept with the suite.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub meta: Value,
}

/// One expectation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expectation {
    /// For example `expect_column_values_to_be_between`.
    #[serde(rename = "type", alias = "expectation_type")]
    pub kind: String,
    /// What it applies to and what is allowed.
    #[serde(default)]
    pub kwargs: Kwargs,
    /// What follows when it is not met.
    #[serde(default)]
    pub severity: Severity,
    /// Anything else that is kept with the expectation.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub meta: Value,
}

/// What follows when an expectation is not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Rows go to quarantine, and the dataset is rejected.
    #[default]
    Critical,
    /// The report says so.
    Warning,
    /// The report says so.
    Info,
}

/// The arguments of an expectation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Kwargs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    #[serde(rename = "column_A", skip_serializing_if = "Option::is_none")]
    pub column_a: Option<String>,
    #[serde(rename = "column_B", skip_serializing_if = "Option::is_none")]
    pub column_b: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub column_list: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column_set: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_min: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_max: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strictly: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or_equal: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ties_okay: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_set: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_list: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mostly: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_row_if: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_object: Option<Partition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_weight_holdout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_weight_holdout: Option<f64>,
    /// What no expectation here takes.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A distribution that a column is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partition {
    /// The values of a column with few of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// The edges of the bins of a column of numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bins: Option<Vec<f64>>,
    /// The share of each value or bin.
    pub weights: Vec<f64>,
    /// The shares below the first and above the last edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_weights: Option<[f64; 2]>,
}

impl Suite {
    /// Parses a suite.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("the suite is not one: {error}"))
    }

    /// The suite that ships with the app.
    pub fn shipped() -> Result<Self, String> {
        Self::parse(DEFAULT.as_bytes())
    }
}

impl Expectation {
    /// The expectation in words, for reasons: `expect_... on `column``.
    pub fn shown(&self) -> String {
        let kwargs = &self.kwargs;
        let pair = [kwargs.column_a.clone(), kwargs.column_b.clone()];
        let mut columns: Vec<String> = kwargs
            .column
            .iter()
            .cloned()
            .chain(kwargs.column_list.iter().cloned())
            .collect();
        columns.extend(pair.into_iter().flatten());
        if columns.is_empty() {
            self.kind.clone()
        } else {
            format!("{} on `{}`", self.kind, columns.join("`, `"))
        }
    }
}
