//! `cargo xtask test`: format, lints, build and every test.

use anyhow::Result;

use crate::build::Machine;
use crate::setup::{clients, cloud, infra, observers, programs, terraform, tools};

const HELP: &str = "\
Checks the format, runs the lints, builds everything and runs every test.

Usage: cargo xtask test [--quick] [ARGS OF `cargo test`]...

  --quick   leave format and lints out

Everything else goes to `cargo test`, for example
  cargo xtask test --quick -p tidegate-it a_dropped_file
";

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let quick = args.first().is_some_and(|arg| arg == "--quick");
    let rest = if quick { &args[1..] } else { args };
    check_and_test(&Machine::set_up(false)?, !quick, rest)
}

/// Everything that has to hold; the first thing that does not ends it.
pub fn check_and_test(machine: &Machine, lints: bool, args: &[String]) -> Result<()> {
    if lints {
        need_lint_tools()?;
        tools::step("checking the format", || {
            tools::run(
                tools::cargo()
                    .args(["fmt", "--all", "--check"])
                    .current_dir(&machine.root),
            )
        })?;
        tools::step("running the lints", || {
            let mut clippy = machine.cargo("clippy");
            // The worker's CUDA code is checked here; no CUDA toolkit is needed for that.
            let what = [
                "--workspace",
                "--all-targets",
                "--features",
                "tidegate-worker/cuda",
            ];
            tools::run(clippy.args(what).args(["--", "--deny", "warnings"]))
        })?;
    }
    let (observers, servers, terraform, infra, clients) =
        tools::step("looking for the programs that tests run", || {
            programs::find()?;
            let folders = &machine.folders;
            Ok((
                observers::find(folders)?,
                cloud::find(folders)?,
                terraform::find(folders)?,
                infra::find(folders)?,
                clients::find(folders)?,
            ))
        })?;
    machine.build()?;
    tools::step("running the tests", || {
        let mut test = machine.cargo("test");
        if !args.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
            test.arg("--workspace");
        }
        test.env("TIDEGATE_OBSERVERS", &observers);
        cloud::equip(&mut test, &servers);
        if let Some(terraform) = &terraform {
            test.env("TIDEGATE_TERRAFORM", &terraform.program);
            test.env("TF_CLI_CONFIG_FILE", &terraform.config);
        }
        test.env("TIDEGATE_INFRA", &infra);
        test.env("TIDEGATE_CLIENTS", &clients);
        let torch = machine.folders.cache.join("torch-venv");
        if torch.join("ready").is_file() {
            test.env("TIDEGATE_TORCH", torch.join("bin/python"));
        }
        tools::run(machine.equip(test.args(args)))
    })
}

fn need_lint_tools() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        tools::output(tools::cargo().args([subcommand, "--version"])).map_err(|_| {
            anyhow::anyhow!("`cargo {subcommand}` is missing; run `rustup component add {component}`, or use `cargo xtask test --quick`")
        })?;
    }
    Ok(())
}
