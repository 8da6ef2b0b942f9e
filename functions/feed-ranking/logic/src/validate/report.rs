//! The report on a dataset, in the shape of Great Expectations' validation result.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::check::Finding;
use super::suite::{Expectation, Severity, Suite};

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the dataset is accepted: every critical expectation was met.
    pub success: bool,
    /// The suite's name.
    pub suite_name: String,
    /// How many expectations were met.
    pub statistics: Statistics,
    /// One for each expectation, in the suite's order.
    pub results: Vec<ExpectationResult>,
    /// The dataset and its rows.
    pub meta: Value,
}

/// How many expectations were met.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Statistics {
    pub evaluated_expectations: usize,
    pub successful_expectations: usize,
    pub unsuccessful_expectations: usize,
    pub success_percent: f64,
}

/// What one expectation came to.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ExpectationResult {
    pub success: bool,
    pub expectation_config: Expectation,
    pub result: Map<String, Value>,
    pub exception_info: Value,
}

impl Report {
    /// Puts the findings of a suite's expectations together.
    pub(super) fn new(suite: &Suite, findings: &[Finding], meta: Value) -> Self {
        let results: Vec<_> = suite
            .expectations
            .iter()
            .zip(findings)
            .map(|(expectation, finding)| ExpectationResult {
                success: finding.success,
                expectation_config: expectation.clone(),
                result: finding.result.clone(),
                exception_info: json!({ "raised_exception": false }),
            })
            .collect();
        let met = results.iter().filter(|result| result.success).count();
        let critical = |result: &ExpectationResult| result.expectation_config.severity == Severity::Critical;
        let statistics = Statistics {
            evaluated_expectations: results.len(),
            successful_expectations: met,
            unsuccessful_expectations: results.len() - met,
            success_percent: if results.is_empty() {
                100.0
            } else {
                met as f64 / results.len() as f64 * 100.0
            },
        };
        let success = results
            .iter()
            .filter(|result| critical(result))
            .all(|result| result.success);
        Self {
            success,
            suite_name: suite.name.clone(),
            statistics,
            results,
            meta,
        }
    }
}
