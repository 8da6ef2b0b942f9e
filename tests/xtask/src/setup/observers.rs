//! What tests look on with: OpenTelemetry's own protobufs and Prometheus' own parser, as Python packages.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::target_dir::Folders;
use super::tools;

/// The releases that the tests were written with, and those that speak the same.
const PACKAGES: [&str; 2] = ["opentelemetry-proto>=1.27,<2", "prometheus_client>=0.20,<1"];

/// The folder of the packages, fetched when this machine has none.
pub fn find(folders: &Folders) -> Result<PathBuf> {
    let home = folders.cache.join("observers");
    if home.join("prometheus_client").is_dir() && home.join("opentelemetry").is_dir() {
        return Ok(home);
    }
    tools::note("fetching what tests look on with: PyPI's `opentelemetry-proto` and `prometheus_client`");
    tools::pip_install(&PACKAGES, &home).context("cannot get the Python packages that tests look on with")?;
    Ok(home)
}
