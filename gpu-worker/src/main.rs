//! The worker's binary: settings, logs, and when to end.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use clap::Parser;
use tidegate_worker::settings::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// How long a job's thread may take to notice that the worker ends.
const DRAIN: Duration = Duration::from_secs(2);

/// Many small allocations a request, on several threads: the system's allocator took a tenth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(until_told(settings));
    runtime.shutdown_timeout(DRAIN);
    result
}

async fn until_told(settings: Settings) -> anyhow::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let parent = if settings.standalone {
        None
    } else {
        Some(parent_gone())
    };
    tokio::spawn(async move {
        let parent_gone = async {
            match parent {
                Some(gone) => drop(gone.await),
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = parent_gone => "the end of standard input",
        };
        tracing::info!("ending on {why}");
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    });
    tidegate_worker::run(settings, stopping).await
}

/// Resolves when standard input ends, which it does with the parent that holds its other end. A thread of its own
/// reads it, as a blocking read could otherwise keep the runtime from ending.
fn parent_gone() -> tokio::sync::oneshot::Receiver<()> {
    let (gone, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = [0u8; 256];
        while matches!(input.read(&mut buffer), Ok(1..)) {}
        let _ = gone.send(());
    });
    wait
}
