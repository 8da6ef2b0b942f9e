//! `cargo xtask package lambda`: builds everything, then writes the package of a Lambda function.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::Machine;
use crate::functions;
use crate::setup::tools;

const HELP: &str = "\
Builds the host and the functions, and writes the package of a Lambda function: the host as `bootstrap`, an app with its
components and their machine code, and a configuration. The same input makes the same bytes.

Usage: cargo xtask package lambda [MANIFEST] --config FILE [--out FILE]

  MANIFEST        the app (default: functions/hello/tidegate.toml)
  --config FILE   the host's configuration, whose store is in AWS (docs/lambda.md)
  --out FILE      the zip file (default: lambda.zip)
";
/// The app that is packaged when none is named.
const APP: &str = "functions/hello/tidegate.toml";

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let Some(("lambda", rest)) = args.split_first().map(|(what, rest)| (what.as_str(), rest)) else {
        bail!("what is to be packaged? There is `cargo xtask package lambda`");
    };
    let machine = Machine::set_up(false)?;
    functions::build(&machine)?;
    machine.release(&[])?;
    let host = machine.folders.released().join("tidegate");
    let bootstrap = tools::step("removing what only debuggers read", || stripped(&host))?;
    let mut package = Command::new(&host);
    package.arg("package").arg("--bootstrap").arg(&bootstrap);
    package
        .arg("--components")
        .arg(machine.folders.functions())
        .args(rest);
    if rest.first().is_none_or(|first| first.starts_with('-')) {
        package.arg(machine.root.join(APP));
    }
    tools::run(&mut package)
}

/// The host without its symbols: Lambda takes no more than 250 MB.
fn stripped(host: &Path) -> Result<PathBuf> {
    let bootstrap = host.with_file_name("bootstrap");
    let mut strip = Command::new("strip");
    strip.arg("--strip-all").arg("-o").arg(&bootstrap).arg(host);
    tools::output(&mut strip).context("`strip` of binutils is needed")?;
    Ok(bootstrap)
}
