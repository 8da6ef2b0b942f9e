//! `tidegate runs resume`: lets a paused run go on from the step that failed.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::cli::text;
use crate::cli::{Target, client, dlq};

/// Lets a paused run go on, from the steps that failed
#[derive(Args)]
pub(super) struct Resume {
    /// The run
    run: String,
    /// Only this step: a function's name or an event's id
    #[arg(long)]
    step: Option<String>,
}

impl Resume {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let path = format!("/api/v1/runs/{}/resume", client::part(&self.run));
        let answer = target
            .client()?
            .post(&path, &json!({ "step": self.step }))
            .await?;
        if target.json {
            return text::say_json(&answer);
        }
        dlq::say_moved(&answer, "resumed")
    }
}
