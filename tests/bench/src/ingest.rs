//! The app's `ingest` in the sandbox, and the same code native.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use feed_ranking::generate::{Format, Settings as Wanted, generate};
use feed_ranking::ingest::{Settings, ingest};
use feed_ranking::messages::SourceObject;
use feed_ranking::table::MemoryStage;
use tidegate_harness::Host;

use crate::table::Table;

const ROWS: u64 = 1_000_000;
const ROUNDS: usize = 3;
const SHARE_OF_NATIVE: f64 = 0.5;

/// Measures it: the best of a few rounds each, the same file.
pub async fn measure(manifest: &Path, table: &mut Table) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("tidegate-bench-")
        .tempdir()
        .context("no temporary folder")?;
    let file = folder.path().join("interactions.csv");
    write_rows(&file)?;
    let megabytes = std::fs::metadata(&file).context("cannot look at the file")?.len() as f64 / 1e6;
    let native = (0..ROUNDS)
        .map(|_| run_native(&file))
        .collect::<Result<Vec<_>>>()?;
    let sandbox = run_in_sandbox(manifest, &file).await?;
    let rate = |took: &[Duration]| megabytes / took.iter().min().map_or(f64::NAN, Duration::as_secs_f64);
    let (ours, other) = (rate(&sandbox), rate(&native));
    let what = format!("ingest of {megabytes:.0} MB of CSV");
    table.beside(
        &what,
        (ours, format!("{ours:.0} MB/s")),
        (other, format!("native {other:.0} MB/s")),
        SHARE_OF_NATIVE,
    );
    Ok(())
}

fn write_rows(file: &Path) -> Result<()> {
    let wanted = Wanted {
        users: 10_000,
        items: 50_000,
        interactions: ROWS,
        days: 30,
        seed: 1,
        format: Format::Csv,
    };
    let mut stage = MemoryStage::default();
    let key = generate(&wanted, &mut stage).context("cannot generate rows")?;
    let bytes = stage.objects.get(&key).context("nothing was generated")?;
    std::fs::write(file, bytes).with_context(|| format!("cannot write `{}`", file.display()))
}

fn run_native(file: &Path) -> Result<Duration> {
    let bytes = File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let source = SourceObject {
        bucket: "data".into(),
        key: "raw/interactions.csv".into(),
        etag: "native".into(),
    };
    let mut stage = MemoryStage::default();
    let started = Instant::now();
    ingest(Arc::new(bytes), &source, &Settings::default(), &mut stage).context("the native ingest failed")?;
    ensure!(!stage.objects.is_empty(), "the native ingest wrote nothing");
    Ok(started.elapsed())
}

/// The host says how long each invocation took.
async fn run_in_sandbox(manifest: &Path, file: &Path) -> Result<Vec<Duration>> {
    let host = Host::with_app(manifest).await?;
    let mut notices = host.api.follow().await?;
    let mut took = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        host.bucket("data")
            .put_file(&format!("raw/bench-{round}.csv"), file)
            .await?;
        let limit = Duration::from_secs(300);
        let ended = notices.wait_for("the ingest's end", limit, |notice| {
            notice.function.as_deref() == Some("ingest") && ["done", "dead"].contains(&notice.kind.as_str())
        });
        let ended = ended.await?;
        ensure!(ended.kind == "done", "the ingest failed: {:?}", ended.reason);
        took.push(Duration::from_secs_f64(
            ended.duration_ms.unwrap_or_default() / 1e3,
        ));
    }
    Ok(took)
}
