//! `cargo xtask sim`: the seeded simulation of the dispatcher, with as many seeds as asked.

use anyhow::{Context as _, Result, bail};

use crate::setup::target_dir::Folders;
use crate::setup::{tools, workspace_root};

const HELP: &str = "\
Simulates the dispatcher: random pipelines in a world whose clock, luck and store a seed decides, with crashes,
failing calls, and deliveries that come twice or out of order. Every seed must keep every invariant; one that does
not is printed with what it broke.

Usage: cargo xtask sim [--seeds N] [--seed S]

  --seeds N   run seeds 0 to N-1 (default: 10000)
  --seed S    run one seed, and print its story
";

const SEEDS: u64 = 10_000;

/// Runs the subcommand.
pub fn run(args: &[String]) -> Result<()> {
    if crate::asks_for_help(args, HELP) {
        return Ok(());
    }
    let (name, value) = match args {
        [] => ("TIDEGATE_SIM_SEEDS", SEEDS),
        [flag, value] if flag == "--seeds" => ("TIDEGATE_SIM_SEEDS", number(value)?),
        [flag, value] if flag == "--seed" => ("TIDEGATE_SIM_SEED", number(value)?),
        _ => bail!("`sim` takes `--seeds N` or `--seed S`"),
    };
    let (root, folders) = (workspace_root()?, Folders::find()?);
    folders.belong_to(&root)?;
    let mut test = tools::cargo();
    test.args([
        "test",
        "--workspace",
        "--test",
        "sim",
        "--",
        "--nocapture",
        "every_seed",
    ])
    .current_dir(root)
    .env("CARGO_TARGET_DIR", folders.target)
    .env(name, value.to_string());
    tools::run(&mut test)
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .with_context(|| format!("`{text}` is no number of seeds, nor a seed"))
}
