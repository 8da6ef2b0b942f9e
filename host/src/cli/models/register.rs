//! `tidegate models register`: uploads an ONNX file, and has it registered.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::api::objects::hex;
use crate::cli::text::{self, field};
use crate::cli::{Target, client, put};

/// The bucket that it is uploaded to.
const BUCKET: &str = "models";

/// Registers an ONNX file as the next version of a model
#[derive(Args)]
pub(super) struct Register {
    /// The model's name
    name: String,
    /// The ONNX file
    file: PathBuf,
    /// What is known of it, such as `auc=0.81`, which decides whether it becomes the champion
    #[arg(long = "metric", value_parser = metric)]
    metrics: Vec<(String, f64)>,
    /// An alias that it gets whatever its metrics are, such as `champion`
    #[arg(long)]
    alias: Option<String>,
}

impl Register {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let client = target.client()?;
        let key = format!("{}/registered/{}.onnx", self.name, digest(&self.file).await?);
        let (file, size) = put::open(&self.file).await?;
        let path = format!("/api/v1/objects/{BUCKET}/{}", client::key(&key));
        let upload = client
            .request(Method::PUT, &path)
            .header("content-type", "application/octet-stream")
            .header("content-length", size)
            .body(reqwest::Body::wrap_stream(ReaderStream::with_capacity(
                file,
                256 << 10,
            )));
        client.send(upload).await?;
        let metrics: Map<String, Value> = self
            .metrics
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        let offered = json!({
            "name": self.name, "bucket": BUCKET, "key": key, "metrics": metrics, "alias": self.alias,
        });
        let answer = client.post("/api/v1/models", &offered).await?;
        if target.json {
            return text::say_json(&answer);
        }
        text::say(&format!(
            "{} version {}: {}, {}\n{}{}",
            self.name,
            answer["version"],
            field(&answer, "decision"),
            field(&answer, "reason"),
            tensors("takes", &answer["signature"]["inputs"]),
            tensors("gives", &answer["signature"]["outputs"]),
        ))
    }
}

fn tensors(what: &str, tensors: &Value) -> String {
    let tensors = tensors.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = tensors.iter().map(|tensor| {
        let (name, datatype) = (text::tame(field(tensor, "name")), field(tensor, "datatype"));
        format!("  {what} `{name}`: {datatype} {}\n", tensor["shape"])
    });
    shown.collect()
}

async fn digest(path: &Path) -> Result<String> {
    let (mut file, _) = put::open(path).await?;
    let (mut digest, mut piece) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        let read = file.read(&mut piece).await;
        let read = read.with_context(|| format!("cannot read `{}`", path.display()))?;
        if read == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(piece.get(..read).unwrap_or_default());
    }
}

fn metric(text: &str) -> Result<(String, f64)> {
    let wrong = || anyhow!("`{text}` is no metric such as `auc=0.81`");
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(wrong)?;
    Ok((name.to_owned(), value.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_a_name_and_a_number() {
        assert_eq!(metric("auc=0.5").unwrap(), ("auc".to_owned(), 0.5));
        for wrong in ["auc", "=1", "auc=high"] {
            assert!(metric(wrong).unwrap_err().to_string().contains(wrong));
        }
    }
}
