//! Follows the host's stream of notices (server-sent events).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use crate::notice::Notice;

/// A line longer than this is no notice of ours.
const LONGEST_LINE: usize = 4 << 20;

/// An open stream of notices.
#[derive(Debug)]
pub struct Follower {
    response: reqwest::Response,
    pending: Vec<u8>,
}

impl Follower {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            pending: Vec::new(),
        }
    }

    /// The next notice; none when the host closed the stream.
    pub async fn next(&mut self) -> Result<Option<Notice>> {
        loop {
            while let Some(line) = self.take_line() {
                if let Some(data) = line.strip_prefix("data:") {
                    return Ok(Some(
                        serde_json::from_str(data.trim()).with_context(|| format!("no notice: `{data}`"))?,
                    ));
                }
            }
            if self.pending.len() > LONGEST_LINE {
                bail!("the stream of notices has a line of more than {LONGEST_LINE} bytes");
            }
            let Some(chunk) = self
                .response
                .chunk()
                .await
                .context("the stream of notices broke off")?
            else {
                return Ok(None);
            };
            self.pending.extend_from_slice(&chunk);
        }
    }

    /// Waits for the first notice that `wanted` picks, for at most `limit`.
    pub async fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Notice) -> bool,
    ) -> Result<Notice> {
        let deadline = Instant::now() + limit;
        loop {
            let next = tokio::time::timeout_at(deadline, self.next()).await;
            match next.with_context(|| format!("{what}: not within {} s", limit.as_secs()))?? {
                Some(notice) if wanted(&notice) => return Ok(notice),
                Some(_) => {}
                None => bail!("{what}: the host closed the stream before"),
            }
        }
    }

    fn take_line(&mut self) -> Option<String> {
        let end = self.pending.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}
