//! `tidegate deploy`: an app on a running host.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::Target;
use super::text::{self, Cell, Colour, field};

/// Deploys an app on a running host
#[derive(Args)]
pub struct Deploy {
    /// The manifest, on the host's machine
    #[arg(default_value = "tidegate.toml")]
    manifest: PathBuf,
    /// Only makes the versions; events and requests go where they went before
    #[arg(long)]
    no_traffic: bool,
    #[command(flatten)]
    target: Target,
}

impl Deploy {
    pub(super) async fn run(self) -> Result<()> {
        let manifest = self.manifest.canonicalize();
        let manifest =
            manifest.with_context(|| format!("there is no manifest `{}`", self.manifest.display()))?;
        let client = self.target.client()?;
        let answer = client
            .post(
                "/api/v1/deploy",
                &json!({ "manifest": manifest, "traffic": !self.no_traffic }),
            )
            .await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let functions = answer["functions"].as_array().cloned().unwrap_or_default();
        let app = text::painted(field(&answer, "app"), Colour::Bold, text::coloured());
        text::say(&format!("{app}: {} functions deployed\n", functions.len()))?;
        let rows: Vec<_> = functions
            .iter()
            .map(|function| {
                let triggers = function["triggers"].as_array().cloned().unwrap_or_default();
                let triggers: Vec<&str> = triggers.iter().filter_map(|trigger| trigger.as_str()).collect();
                vec![
                    Cell::new(format!("  {}", field(function, "name"))),
                    Cell::new(format!("version {}", function["version"])),
                    Cell::new(text::cut(field(function, "digest"), 12)).colour(Colour::Dim),
                    Cell::new(triggers.join(", ")),
                ]
            })
            .collect();
        text::say_rows(&rows)?;
        for function in &functions {
            let warnings = function["warnings"].as_array().cloned().unwrap_or_default();
            let warnings: Vec<String> = warnings
                .iter()
                .filter_map(|told| Some(told.as_str()?.to_owned()))
                .collect();
            text::warn(field(function, "name"), &warnings);
        }
        Ok(())
    }
}
