//! `tidegate jobs cancel`: ends a job that waits or runs.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::cli::{Target, client, text};

/// Ends a job that waits or runs; it emits `tidegate.job.cancelled`
#[derive(Args)]
pub(super) struct Cancel {
    /// The job
    job: String,
}

impl Cancel {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let path = format!("/api/v1/jobs/{}/cancel", client::part(&self.job));
        let answer = target.client()?.post(&path, &json!({})).await?;
        if target.json {
            return text::say_json(&answer);
        }
        text::say(&format!("cancelled `{}`\n", self.job))
    }
}
