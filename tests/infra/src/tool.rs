//! The programs that read what we wrote, as Python packages bring them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// What one of the scripts in `tools/` answers when it is asked.
pub(crate) fn ask(script: &str, asked: &str) -> Result<Value> {
    let output = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(script))
        .arg(asked)
        .env("PYTHONPATH", packages()?)
        .output()
        .context("cannot start python3")?;
    if !output.status.success() {
        bail!("`{script}`: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What hadolint has to say of a file.
pub fn complaints(file: &Path) -> Result<String> {
    let output = Command::new(packages()?.join("bin/hadolint"))
        .arg("--no-color")
        .arg(file)
        .output()
        .context("cannot start hadolint")?;
    let told = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&told).into_owned())
}

fn packages() -> Result<PathBuf> {
    let packages = std::env::var_os("TIDEGATE_INFRA").map(PathBuf::from);
    packages.context("`TIDEGATE_INFRA` is not set; `cargo xtask test` sets it")
}
