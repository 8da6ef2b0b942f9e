//! Clients of the Open Inference Protocol that others wrote, for tests, and what writes models for them, as Python packages.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::target_dir::Folders;
use super::tools;

/// The releases that the tests were written with, and those that speak the same.
const PACKAGES: [&str; 4] = [
    "tritonclient[http,grpc]>=2.73,<3",
    "open-inference-openapi==2.0.0.1",
    "schemathesis>=4.32,<5",
    "onnx>=1.17,<2",
];
/// Of this only the protocol's OpenAPI document is wanted, and nothing that it needs to run.
const DOCUMENT: &str = "mlserver>=1.7,<1.8";
/// What is there once they are.
const SIGNS: [&str; 5] = [
    "tritonclient",
    "open_inference",
    "schemathesis",
    "onnx",
    "mlserver",
];

/// The folder of the packages, fetched when this machine has none.
pub fn find(folders: &Folders) -> Result<PathBuf> {
    let home = folders.cache.join("clients");
    if SIGNS.iter().all(|sign| home.join(sign).is_dir()) {
        return Ok(home);
    }
    tools::note(
        "fetching clients of inference: PyPI's `tritonclient`, `open-inference-openapi` and `schemathesis`",
    );
    tools::pip_install(&PACKAGES, &home)
        .and_then(|()| tools::pip_install_alone(&[DOCUMENT], &home))
        .context("cannot get the Python packages of inference clients")?;
    Ok(home)
}
