//! `tidegate models`: the registry.

mod register;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::text::{self, Cell, Colour, date, field, tame};
use super::{Target, client};

/// Shows registered models, or the versions of one; `models register` brings one along
#[derive(Args)]
pub struct Models {
    #[command(subcommand)]
    command: Option<Command>,
    /// The model
    model: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    Register(register::Register),
}

impl Models {
    pub(super) async fn run(self) -> Result<()> {
        if let Some(Command::Register(register)) = self.command {
            return register.run(&self.target).await;
        }
        let client = self.target.client()?;
        let answer = match &self.model {
            Some(model) => {
                client
                    .get(&format!("/api/v1/models/{}", client::part(model)), &[])
                    .await?
            }
            None => client.get("/api/v1/models", &[]).await?,
        };
        if self.target.json {
            return text::say_json(&answer);
        }
        let models = match self.model {
            Some(_) => vec![answer],
            None => answer["models"].as_array().cloned().unwrap_or_default(),
        };
        if models.is_empty() {
            return text::say("no models yet: an app registers them, or `tidegate models register`\n");
        }
        for model in &models {
            text::say(&format!(
                "{}\n",
                text::painted(field(model, "name"), Colour::Bold, text::coloured())
            ))?;
            let versions = model["versions"].as_array().cloned().unwrap_or_default();
            text::say_rows(
                &versions
                    .iter()
                    .map(|version| row(version, &model["aliases"]))
                    .collect::<Vec<_>>(),
            )?;
        }
        Ok(())
    }
}

fn row(version: &Value, aliases: &Value) -> Vec<Cell> {
    let number = &version["version"];
    let named = aliases
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, target)| *target == number);
    let named: Vec<&str> = named.map(|(alias, _)| alias.as_str()).collect();
    let metric = |name: &str| {
        version["metrics"][name]
            .as_f64()
            .map(|value| format!("{name} {value:.4}"))
    };
    vec![
        Cell::new(format!("  {number}")).right(),
        Cell::new(named.join(", ")).colour(Colour::Green),
        Cell::new(field(version, "decision")),
        Cell::new(metric("auc").unwrap_or_default()),
        Cell::new(metric("log_loss").unwrap_or_default()),
        Cell::new(date(version["created"].as_u64().unwrap_or_default())).colour(Colour::Dim),
        Cell::new(tame(field(version, "reason"))),
    ]
}
