//! Ctrl-C drains; what was not finished goes on at the next start.

use std::time::Duration;

use anyhow::Result;
use tidegate_it::{Flavour, Scene, interactions, settled_run};

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_host_ends_well_and_its_run_goes_on_at_the_next_start() -> Result<()> {
    let scene = Scene::new()?;
    let mut host = scene.host().await?;
    let mut notices = host.api.follow().await?;
    host.bucket("data")
        .put("raw/drain.csv", interactions(4000, 5, Flavour::Clean))
        .await?;
    notices
        .wait_for("the first step", Duration::from_secs(60), |notice| {
            notice.kind == "started"
        })
        .await?;
    host.interrupt()?;
    let status = host.exited().await?;
    assert!(status.success(), "{status}; {}", host.log_tail());
    host.restart().await?;
    let run = settled_run(&host, "raw/drain.csv").await?;
    assert_eq!(run.state.as_deref(), Some("done"), "{run:#?}");
    Ok(())
}
