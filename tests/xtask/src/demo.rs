//! `cargo xtask demo`: builds everything, then becomes the demo program.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::Machine;

const HELP: &str = "\
Runs the whole pipeline once: data, upload, validation, features, training, registration, HTTPS prediction.

Usage: cargo xtask demo [--data DIR] [--keep] [--port PORT] [--data-dir DIR]

  --data DIR      take the MovieLens files of this folder (movies.csv, ratings.csv) for generated data
  --keep          leave everything running at the end, to try it by hand
  --port PORT     the gateway's port (default: 8080 if it is free, else any)
  --data-dir DIR  keep the host's data there (default: a temporary folder)
";

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let machine = Machine::set_up(false)?;
    machine.build()?;
    let mut demo = Command::new(machine.folders.binaries().join("tidegate-demo"));
    demo.arg("--manifest")
        .arg(machine.root.join("functions/feed-ranking/tidegate.toml"))
        .args(args);
    // Returns only when it failed.
    Err(machine.equip(&mut demo).exec()).context("cannot start the demo")
}
