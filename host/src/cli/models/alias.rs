//! `tidegate models alias`: points an alias of a model at versions.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::json;
use tidegate_runtime::trigger::Split;

use crate::cli::{Target, alias, client, text};

/// Points an alias of a model at one or two versions, each with its share of 100
#[derive(Args)]
pub(super) struct Alias {
    /// The model
    model: String,
    /// `champion`, or a name of your own
    alias: String,
    /// Such as `4`, or `3=95,4=5`
    #[arg(value_parser = alias::split)]
    versions: Split,
}

impl Alias {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let client = target.client()?;
        let (model, alias) = (client::part(&self.model), client::part(&self.alias));
        let shares: BTreeMap<u64, u64> = self.versions.shares().collect();
        let request = client
            .request(Method::PUT, &format!("/api/v1/models/{model}/aliases/{alias}"))
            .json(&json!({ "versions": shares }));
        let answer = client.json(request).await?;
        match target.json {
            true => text::say_json(&answer),
            false => super::say(&answer),
        }
    }
}
