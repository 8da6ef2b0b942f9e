//! `tidegate check`: a manifest and its components, without running anything.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::text::{self, Cell, Colour};

/// Checks a manifest and its components; every mistake is told in one go
#[derive(Args)]
pub struct Check {
    /// The manifest
    #[arg(default_value = "tidegate.toml")]
    manifest: PathBuf,
    /// A folder searched for components, after the manifest's own; may be repeated
    #[arg(long, env = "TIDEGATE_COMPONENTS", value_delimiter = ':')]
    components: Vec<PathBuf>,
    /// Answers for programs
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode> {
        let checked = tidegate_runtime::check(&self.manifest, &self.components)?;
        match checked {
            Ok(deployed) if self.json => text::say_json(&serde_json::to_value(deployed)?)?,
            Ok(deployed) => {
                let app = text::painted(&deployed.app, Colour::Bold, text::coloured());
                text::say(&format!(
                    "{app}: {} functions, no mistakes\n",
                    deployed.functions.len()
                ))?;
                let row = |function: &tidegate_runtime::deploy::FunctionInfo| {
                    vec![
                        Cell::new(format!("  {}", function.name)),
                        Cell::new(text::cut(&function.digest, 12)).colour(Colour::Dim),
                        Cell::new(function.triggers.join(", ")),
                    ]
                };
                text::say_rows(&deployed.functions.iter().map(row).collect::<Vec<_>>())?;
                for function in &deployed.functions {
                    text::warn(&function.name, &function.warnings);
                }
            }
            Err(mistakes) => {
                eprintln!("{mistakes}");
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
