//! What Tidegate is deployed with.

#![allow(clippy::unwrap_used, clippy::panic)]

mod images;
mod modules;
mod network;
mod refusals;
mod workers;
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

/// Pools of workers without certificates.
const POOLS: &str = "
secretName: keys
tls: { certManager: { issuer: internal } }
worker: { pools: { gpu: { gpus: 1 }, other: { replicas: 2 } } }
";

/// What the Terraform module of the platform gives out for EKS, as its own test has it.
const EKS: &str = "infra/terraform/modules/platform/tests/chart-values.yaml";

/// The chart with the values of a trial, of a plain fleet, of pools, of a platform that Terraform made, and of the
/// example for production.
fn every_way() -> Result<Vec<Rendered>> {
    let read = |file: &str| {
        std::fs::read_to_string(workspace_root().join(file)).with_context(|| format!("no values in `{file}`"))
    };
    let (eks, example) = (read(EKS)?, read("infra/kubernetes/production.yaml")?);
    let chart = Chart::find();
    [TRIAL, PLAIN, POOLS, &eks, &example]
        .iter()
        .map(|values| chart.render(values))
        .collect()
}
