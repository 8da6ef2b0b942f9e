//! `tidegate put`: a file becomes an object, and whatever waits for it starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use reqwest::Method;
use tokio_util::io::ReaderStream;

use super::text::{self, Colour, field};
use super::{Target, client};

/// Uploads a file: whatever waits for it starts
#[derive(Args)]
pub struct Put {
    /// The file; `-` reads the standard input
    file: PathBuf,
    /// Where to: BUCKET/KEY; a key that ends in `/` gets the file's name
    place: String,
    /// The media type [default: by the key's ending]
    #[arg(long)]
    content_type: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Put {
    pub(super) async fn run(self) -> Result<()> {
        let (bucket, key) = self.place()?;
        let path = format!("/api/v1/objects/{}/{}", client::part(&bucket), client::key(&key));
        let client = self.target.client()?;
        let content_type = self
            .content_type
            .clone()
            .unwrap_or_else(|| media_type(&key).to_owned());
        let request = client
            .request(Method::PUT, &path)
            .header("content-type", content_type);
        let request = match self.file.as_os_str() == "-" {
            true => request.body(reqwest::Body::wrap_stream(ReaderStream::new(tokio::io::stdin()))),
            false => {
                let (file, size) = open(&self.file).await?;
                let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 256 << 10));
                request.header("content-length", size).body(body)
            }
        };
        let answer = client
            .send(request)
            .await?
            .json::<serde_json::Value>()
            .await
            .context("the answer is no JSON")?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let hint = text::painted(
            "follow it with `tidegate runs` or `tidegate events`",
            Colour::Dim,
            text::coloured(),
        );
        text::say(&format!(
            "{bucket}/{key}  {} bytes  etag {}\n{hint}\n",
            answer["size"],
            field(&answer, "etag")
        ))
    }

    fn place(&self) -> Result<(String, String)> {
        let Some((bucket, key)) = self.place.split_once('/') else {
            bail!(
                "`{}` is no place for an object: it takes BUCKET/KEY, for example `data/raw/clicks.csv`",
                self.place
            );
        };
        if !(key.is_empty() || key.ends_with('/')) {
            return Ok((bucket.to_owned(), key.to_owned()));
        }
        let name = self
            .file
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| *name != "-");
        let name = name.context("the standard input has no name: end the place in a key")?;
        Ok((bucket.to_owned(), format!("{key}{name}")))
    }
}

/// A file, and its length.
pub(super) async fn open(path: &Path) -> Result<(tokio::fs::File, u64)> {
    let opened = tokio::fs::File::open(path).await;
    let file = opened.with_context(|| format!("cannot read `{}`", path.display()))?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        bail!("`{}` is no file", path.display());
    }
    Ok((file, metadata.len()))
}

fn media_type(key: &str) -> &'static str {
    match key.rsplit('.').next().unwrap_or_default() {
        "csv" => "text/csv",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "parquet" => "application/vnd.apache.parquet",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
