//! The benchmarks: what Tidegate does on this machine, beside a peer or the limit the project set itself.

mod backlog;
mod cloud;
mod commits;
mod events;
mod hello;
mod idle;
mod inference;
mod ingest;
mod lambda;
mod latency;
mod load;
mod neighbours;
mod peer;
mod predict;
mod restate;
mod rivals;
mod soak;
mod stage;
mod start_up;
mod table;
mod training;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::table::Table;

const NAMES: [&str; 15] = [
    "start",
    "hello",
    "latency",
    "events",
    "commits",
    "backlog",
    "idle",
    "neighbours",
    "predict",
    "inference",
    "ingest",
    "training",
    "aws",
    "lambda",
    SOAK,
];
/// Only where it is named, as it takes as long as one likes.
const SOAK: &str = "soak";

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about)]
struct Args {
    /// The feed-ranking app's manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Where peers are installed.
    #[arg(long)]
    cache: PathBuf,
    /// What `training` trains on; for `cuda` the worker is built for it.
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "cuda"])]
    device: String,
    /// How long `soak` takes.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Which to run; all of them but `soak` when none is named.
    names: Vec<String>,
}

fn main() -> std::process::ExitCode {
    match start(&Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<()> {
    if let Some(unknown) = args.names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("no benchmark `{unknown}`; there are {}", NAMES.join(", "));
    }
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(run(args))
}

async fn run(args: &Args) -> Result<()> {
    let mut table = Table::default();
    for name in NAMES {
        let named = args.names.iter().any(|wanted| wanted == name);
        if !named && (name == SOAK || !args.names.is_empty()) {
            continue;
        }
        eprintln!("==> {name}");
        let measured = match name {
            "start" => start_up::measure(&mut table).await,
            "hello" => hello::measure(args, &mut table).await,
            "latency" => latency::measure(&mut table).await,
            "events" => events::measure(&mut table).await,
            "commits" => commits::measure(&args.cache, &mut table).await,
            "backlog" => backlog::measure(&mut table).await,
            "idle" => idle::measure(&mut table).await,
            "neighbours" => neighbours::measure(&mut table).await,
            "predict" => predict::measure(args, &mut table).await,
            "training" => training::measure(args, &mut table).await,
            SOAK => soak::measure(args, &mut table).await,
            "inference" => inference::measure(args, &mut table).await,
            "aws" => cloud::measure(&mut table).await,
            "lambda" => lambda::measure(&mut table).await,
            _ => ingest::measure(&args.manifest, &mut table).await,
        };
        measured.with_context(|| format!("benchmark `{name}`"))?;
    }
    println!("\n{table}");
    Ok(())
}
