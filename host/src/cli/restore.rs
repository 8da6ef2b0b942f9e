//! `tidegate restore`: a back-up becomes a store that no host works on yet.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::logging::{self, LogFormat};
use super::text::{self, date};
use crate::config::Config;
use crate::{backup, store};

/// Makes a store of a back-up, in the empty place that the configuration names; then start the host
#[derive(Args)]
pub struct Restore {
    /// The file that `tidegate backup` wrote
    from: PathBuf,
    /// The folder of all that is kept [default: .tidegate]
    #[arg(long, env = "TIDEGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration of the host that will work on it
    #[arg(long, env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
}

impl Restore {
    pub(super) async fn run(self) -> Result<()> {
        logging::start(LogFormat::Text);
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if let Some(folder) = &self.data_dir {
            config.data_dir.clone_from(folder);
        }
        let from = std::path::absolute(&self.from)?;
        let checked = from.clone();
        let summary = tokio::task::spawn_blocking(move || backup::check(&checked)).await??;
        let layout = config.store.layout();
        if summary.store != layout {
            bail!(
                "`{}` is of a store `{}`, the configuration has one of `{layout}`",
                from.display(),
                summary.store
            );
        }
        let empty = store::refill(&config, &summary.sums).await?;
        let restored = backup::restore(&from, empty).await;
        restored.context("not restored; run it again when the reason is gone")?;
        text::say(&format!(
            "restored {} rows and {} blobs as of {}; start the host\n",
            summary.rows,
            summary.blobs,
            date(summary.moment)
        ))
    }
}
