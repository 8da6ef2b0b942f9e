//! `tidegate models shadow`: has a version be asked what the champion answers.

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::cli::{Target, client, text};

/// Copies the champion's requests to a version that never answers
#[derive(Args)]
pub(super) struct Shadow {
    /// The model
    model: String,
    /// The version
    #[arg(required_unless_present = "off")]
    version: Option<u64>,
    /// Copies them no more
    #[arg(long, conflicts_with = "version")]
    off: bool,
}

impl Shadow {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let client = target.client()?;
        let path = format!("/api/v1/models/{}/shadow", client::part(&self.model));
        let request = match self.version {
            Some(version) => client
                .request(Method::PUT, &path)
                .json(&json!({ "version": version })),
            None => client.request(Method::DELETE, &path),
        };
        let answer = client.json(request).await?;
        match target.json {
            true => text::say_json(&answer),
            false => super::say(&answer),
        }
    }
}
