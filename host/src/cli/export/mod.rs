//! `tidegate export terraform`: an app in Terraform's language, for `modules/app`.

mod hcl;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use tidegate_runtime::manifest::{Dialect, Manifest};
use toml::Table;

use super::client::part;
use super::{Target, text};

/// Writes an app down for other tools
#[derive(Args)]
pub struct Export {
    #[command(subcommand)]
    format: Format,
}

#[derive(Subcommand)]
enum Format {
    Terraform(Terraform),
}

/// For Terraform: the `manifest` of `modules/app`, as a local value of the app's name
#[derive(Args)]
struct Terraform {
    /// The app's manifest
    #[arg(default_value = "tidegate.toml")]
    manifest: PathBuf,
    /// The app as a running host has it, instead of a file
    #[arg(long, conflicts_with = "manifest")]
    app: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Export {
    pub(super) async fn run(self) -> Result<()> {
        let Format::Terraform(terraform) = self.format;
        let (app, manifest) = match &terraform.app {
            Some(app) => (app.clone(), terraform.deployed(app).await?),
            None => terraform.read()?,
        };
        text::say(&hcl::local(&app, manifest))
    }
}

impl Terraform {
    /// The file, if there is no mistake in it.
    fn read(&self) -> Result<(String, Table)> {
        let file = self.manifest.display().to_string();
        let text = std::fs::read_to_string(&self.manifest);
        let text = text.with_context(|| format!("cannot read the manifest `{file}`"))?;
        let manifest = Manifest::parse(&text, &file)?;
        if manifest.dialect != Dialect::Tidegate {
            bail!("`{file}` is a `spin.toml`, expected a `tidegate.toml`");
        }
        Ok((manifest.app.name, text.parse()?))
    }

    async fn deployed(&self, app: &str) -> Result<Table> {
        let path = format!("/api/v1/apps/{}/manifest", part(app));
        let mut answer = self.target.client()?.get(&path, &[]).await?;
        let manifest = serde_json::from_value(answer["manifest"].take());
        manifest.with_context(|| format!("`{}` did not answer with a manifest", self.target.host))
    }
}
