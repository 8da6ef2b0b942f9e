//! Notices as a host streams them.

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use reqwest::Response;

/// A line of the stream is no longer than this.
const LONGEST: usize = 16 << 20;

/// Hands every notice on, as JSON text, until the host ends the stream.
pub(super) async fn notices(answer: Response, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut pieces = answer.bytes_stream();
    let mut waiting: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.next().await {
        waiting.extend_from_slice(&piece.context("the host went away")?);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            if let Some(data) = String::from_utf8_lossy(&line).strip_prefix("data:") {
                each(data.trim())?;
            }
        }
        anyhow::ensure!(
            waiting.len() <= LONGEST,
            "the host sends a line of more than {LONGEST} bytes"
        );
    }
    anyhow::bail!("the host stopped")
}
