//! `tidegate backup`: all that a running host's store holds, in one file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures::StreamExt as _;
use reqwest::{Method, Response};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Target;
use super::text::{self, date};
use crate::backup::{self, Summary};

/// Writes all that a host's store holds at one moment to a file, and checks it
#[derive(Args)]
pub struct Backup {
    /// The file, which does not exist yet; `-` writes to the standard output, and checks nothing
    to: PathBuf,
    #[command(flatten)]
    target: Target,
}

impl Backup {
    pub(super) async fn run(self) -> Result<()> {
        if self.to.as_os_str() == "-" {
            return write(self.asked().await?, tokio::io::stdout()).await;
        }
        if self.to.exists() {
            bail!(
                "`{}` exists; a back-up is written to a new file",
                self.to.display()
            );
        }
        let summary = self.to_file().await?;
        if self.target.json {
            return text::say_json(&serde_json::to_value(&summary)?);
        }
        text::say(&format!(
            "{}  {} rows, {} blobs, {:.1} MB, as of {}\n",
            self.to.display(),
            summary.rows,
            summary.blobs,
            summary.bytes as f64 / 1e6,
            date(summary.moment)
        ))
    }

    async fn asked(&self) -> Result<Response> {
        let client = self.target.client()?;
        client.send(client.request(Method::POST, "/api/v1/backup")).await
    }

    /// Under another name until it is whole, checked and on the disk.
    async fn to_file(&self) -> Result<Summary> {
        let part = with_ending(&self.to, ".part");
        let answer = self.asked().await?;
        let file = tokio::fs::File::create(&part).await;
        let file = file.with_context(|| format!("cannot write `{}`", part.display()))?;
        write(answer, file.try_clone().await?).await?;
        file.sync_all().await?;
        let checked = part.clone();
        let summary = tokio::task::spawn_blocking(move || backup::check(&checked)).await??;
        tokio::fs::rename(&part, &self.to).await?;
        Ok(summary)
    }
}

async fn write(answer: Response, mut to: impl AsyncWrite + Unpin) -> Result<()> {
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.context("the back-up broke off; the host's log says why")?;
        to.write_all(&piece).await.context("cannot write the back-up")?;
    }
    to.flush().await.context("cannot write the back-up")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
