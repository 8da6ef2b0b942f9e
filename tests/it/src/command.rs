//! `tidegate` on the command line, beside a host that runs.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use tidegate_harness::{Host, Install};

/// What a command that must succeed says.
pub fn says(host: &Host, args: &[&str]) -> Result<String> {
    let output = tidegate(host, args)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{args:?}: {said}{complained}");
    Ok(said)
}

/// Why a command that must fail did.
pub fn complains(host: &Host, args: &[&str]) -> Result<String> {
    let output = tidegate(host, args)?;
    ensure!(!output.status.success(), "{args:?} succeeded");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn tidegate(host: &Host, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(Install::find()?.tidegate);
    command.args(args).env("TIDEGATE_HOST_URL", &host.ready.gateway);
    Ok(command.output()?)
}
