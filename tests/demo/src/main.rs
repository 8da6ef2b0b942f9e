//! The demo: the whole pipeline once on a real host, from an uploaded file to an HTTPS prediction.

mod dataset;
mod generated;
mod pipeline;
mod predict;
mod report;
mod screen;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tidegate_harness::{Follower, Host, Options};

use crate::dataset::Dataset;
use crate::pipeline::Pipeline;
use crate::screen::Screen;

const GATEWAY_PORT: u16 = 8080;
const S3_PORT: u16 = 9000;
const BUCKET: &str = "data";

#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", about)]
struct Args {
    /// The app's manifest.
    #[arg(long)]
    manifest: PathBuf,
    /// Take the MovieLens files of this folder for generated data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Rows to generate.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Leave everything running at the end.
    #[arg(long)]
    keep: bool,
    /// The gateway's port; 8080 if it is free, else any.
    #[arg(long)]
    port: Option<u16>,
    /// Keep the host's data there.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let outcome = tokio::runtime::Runtime::new()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let screen = Screen::new();
    let mut host = start(&args, &screen).await?;
    let shown = tokio::select! {
        shown = show(&args, &host, &screen) => shown,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = shown {
        return Err(explain(error, &mut host, &args).await);
    }
    if args.keep {
        screen.say("\nServing until Ctrl-C.");
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    }
    host.interrupt()?;
    host.exited().await.map(drop)
}

async fn start(args: &Args, screen: &Screen) -> Result<Host> {
    let started = Instant::now();
    let step = screen.step("host");
    let port = args
        .port
        .or_else(|| usual_ports_are_free().then_some(GATEWAY_PORT));
    let manifest = Some(args.manifest.clone());
    let options = Options {
        manifest,
        data_dir: args.data_dir.clone(),
        port,
        ..Options::default()
    };
    let host = Host::start(options).await?;
    step.done(
        &format!("gateway {}, S3 {}", host.ready.gateway_tls, host.ready.s3),
        started.elapsed(),
    );
    Ok(host)
}

async fn show(args: &Args, host: &Host, screen: &Screen) -> Result<()> {
    let dataset = match &args.data {
        Some(folder) => Dataset::movielens(folder)?,
        None => Dataset::generate(args.rows, screen)?,
    };
    let mut notices = host.api.follow().await?;
    if let Some(catalog) = &dataset.catalog {
        upload(host, catalog, screen).await?;
        run_of(&mut notices, screen).await?;
    }
    upload(host, &dataset.interactions, screen).await?;
    let finished = run_of(&mut notices, screen).await?;
    let model = finished.context("the file was no interactions: no model was trained")?;
    report::metrics(&model, screen);
    predict::ask(&host.https()?, &dataset, screen).await?;
    report::next_steps(host, args, screen);
    Ok(())
}

/// Uploads a file as it is, as any S3 client would.
async fn upload(host: &Host, file: &std::path::Path, screen: &Screen) -> Result<()> {
    let started = Instant::now();
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .context("the file has no usable name")?;
    let step = screen.step("upload");
    host.bucket(BUCKET).put_file(&format!("raw/{name}"), file).await?;
    let size = std::fs::metadata(file).map(|meta| meta.len()).unwrap_or_default();
    let shown = format!("s3://{BUCKET}/raw/{name}, {}", indicatif::DecimalBytes(size));
    step.done(&shown, started.elapsed());
    Ok(())
}

/// Shows what an upload set off until nothing of it is left to do; what became of the model, if one was trained.
async fn run_of(notices: &mut Follower, screen: &Screen) -> Result<Option<serde_json::Value>> {
    let mut pipeline = Pipeline::new(screen);
    while let Some(notice) = notices.next().await? {
        if pipeline.take(&notice)? {
            return Ok(pipeline.into_model());
        }
    }
    bail!("the host closed the stream of notices before the pipeline ended")
}

/// Adds to an error what helps to look further.
async fn explain(error: anyhow::Error, host: &mut Host, args: &Args) -> anyhow::Error {
    if !host.is_running() {
        return error.context(format!("the host ended; its log ends:\n{}", host.log_tail()));
    }
    let logs = format!("tidegate logs --host {}", host.ready.gateway);
    if args.keep {
        eprintln!("\nerror: {error:#}\nlook further with `{logs}`; serving until Ctrl-C");
        // Either way the demo ends now.
        let _ = tokio::signal::ctrl_c().await;
        return error;
    }
    if host.interrupt().is_ok() {
        let _ = host.exited().await;
    }
    error.context(format!(
        "the demo stopped; run it with `--keep` and look further with `{logs}`"
    ))
}

fn usual_ports_are_free() -> bool {
    [GATEWAY_PORT, S3_PORT]
        .iter()
        .all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
