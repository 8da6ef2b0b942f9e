//! What Tidegate is deployed with.

#![allow(clippy::unwrap_used, clippy::panic)]

mod images;
mod network;
mod refusals;
mod workloads;

use anyhow::{Context as _, Result};
use tidegate_harness::workspace_root;
use tidegate_infra_tests::{Chart, Rendered};

/// The least that a user gives.
const TRIAL: &str = "secretName: keys";
/// Many hosts that scale by the CPU they use, without workers of their own.
const PLAIN: &str = "
secretName: keys
store: { kind: aws, aws: { bucket: acme } }
autoscaling: { hpa: { enabled: true } }
networkPolicy: { s3From: [{ podSelector: {} }] }
";

/// The chart with the values of a trial, of a plain fleet, and of the example for production.
fn every_way() -> Result<Vec<Rendered>> {
    let example = workspace_root().join("infra/kubernetes/production.yaml");
    let example = std::fs::read_to_string(&example).context("no values for production")?;
    let chart = Chart::find();
    [TRIAL, PLAIN, &example]
        .iter()
        .map(|values| chart.render(values))
        .collect()
}
