//! `tidegate dlq drop`: gives events up for good.

use anyhow::Result;
use clap::Args;

use super::{Selection, say_moved};
use crate::cli::Target;
use crate::cli::text;

/// Drops dead letters for good; their runs keep a record of it
#[derive(Args)]
pub(super) struct Drop {
    #[command(flatten)]
    letters: Selection,
}

impl Drop {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let body = self.letters.body()?;
        let answer = target.client()?.post("/api/v1/dlq/drop", &body).await?;
        if target.json {
            return text::say_json(&answer);
        }
        say_moved(&answer, "dropped")
    }
}
