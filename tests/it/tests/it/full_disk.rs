//! A disk that takes no more: the host ends, and its next start goes on with all that was acknowledged.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_harness::{Host, Options, until};
use tidegate_it::Scene;

/// No file of the host may grow beyond this.
const LARGEST_FILE: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_database_failed_ends_and_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let options = Options {
        data_dir: Some(scene.path("data")),
        // A write over the limit is then an error, not a signal.
        under: vec!["env".into(), "--ignore-signal=XFSZ".into()],
        ..Options::default()
    };
    let mut host = Host::start(options).await?;
    limit_files(&host, LARGEST_FILE)?;
    let mut acknowledged = Vec::new();
    until("the end of the host", Duration::from_secs(60), async || {
        let key = format!("row-{:05}", acknowledged.len());
        if host.api.put_object("data", &key, vec![7; 100]).await.is_ok() {
            acknowledged.push(key);
        }
        Ok((!host.is_running()).then_some(()))
    })
    .await?;
    let status = host.exited().await?;
    ensure!(status.code() == Some(1), "{status}: {}", host.log_tail());
    let log = host.log_tail();
    ensure!(
        log.contains("the database failed") && log.contains("start the host again"),
        "{log}"
    );
    host.restart().await?;
    let kept = host.bucket("data").list("row-").await?;
    let lost: Vec<_> = acknowledged.iter().filter(|key| !kept.contains(key)).collect();
    ensure!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    host.api.put_object("data", "after", vec![7; 100]).await
}

fn limit_files(host: &Host, bytes: u64) -> Result<()> {
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", host.pid()))
        .arg(format!("--fsize={bytes}"))
        .status()
        .context("cannot start `prlimit`")?;
    ensure!(status.success(), "`prlimit` ended with {status}");
    Ok(())
}
