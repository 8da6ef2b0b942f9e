//! `cargo xtask ci`: `cargo xtask test` for a machine that nobody watches.

use anyhow::Result;

use crate::build::Machine;
use crate::test;

const HELP: &str = "\
What CI runs: `cargo xtask test` with the lock file fixed and every test run, whichever fail.

Usage: cargo xtask ci
";

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let machine = Machine::set_up(true)?;
    let mut arguments = vec!["--no-fail-fast".to_owned()];
    arguments.extend_from_slice(args);
    test::check_and_test(&machine, true, &arguments)
}
