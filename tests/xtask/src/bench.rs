//! `cargo xtask bench`: builds everything, the host and its worker as they are shipped, then runs the benchmarks.

use std::process::Command;

use anyhow::Result;

use crate::build::Machine;
use crate::setup::{cloud, tools};

const HELP: &str = "\
Measures Tidegate, built as it is shipped, beside its peers and the limits the project set itself, and prints a table.

Usage: cargo xtask bench [--device cpu|cuda] [--minutes N] [NAME]...

Names: start, hello, latency, events, commits, backlog, idle, neighbours, predict, inference, ingest, training, aws, lambda
(default: all of them), and soak

  --device cuda   `training` on an NVIDIA device, with a worker that is built for it
  --minutes N     how long `soak` takes (default: 5)
";

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let machine = Machine::set_up(false)?;
    machine.build()?;
    let on_cuda = args.iter().any(|arg| arg.contains("cuda"));
    // For NVIDIA devices no CUDA toolkit is needed.
    machine.release(if on_cuda {
        &["--features", "tidegate-worker/cuda"]
    } else {
        &[]
    })?;
    let mut bench = Command::new(machine.folders.binaries().join("tidegate-bench"));
    bench
        .arg("--manifest")
        .arg(machine.root.join("functions/feed-ranking/tidegate.toml"));
    bench.arg("--cache").arg(&machine.folders.cache).args(args);
    if args.is_empty() || args.iter().any(|name| name == "aws" || name == "lambda") {
        cloud::equip(&mut bench, &cloud::find(&machine.folders)?);
    }
    machine.equip(&mut bench);
    bench.env("TIDEGATE_BIN", machine.folders.released().join("tidegate"));
    tools::run(&mut bench)
}
