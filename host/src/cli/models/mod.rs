//! `tidegate models`: the registry.

mod alias;
mod register;
mod rollout;
mod shadow;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::text::{self, Cell, Colour, date, field, tame};
use super::{Target, client};

/// Shows registered models, or the versions of one, and decides which of them answer
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
    Show(Show),
    Register(register::Register),
    Alias(alias::Alias),
    Rollout(rollout::Rollout),
    Shadow(shadow::Shadow),
}

/// Shows the versions of a model, and how far its rollout is
#[derive(Args)]
struct Show {
    /// The model
    model: String,
}

impl Models {
    pub(super) async fn run(self) -> Result<()> {
        let model = match self.command {
            None => self.model,
            Some(Command::Show(Show { model })) => Some(model),
            Some(Command::Register(register)) => return register.run(&self.target).await,
            Some(Command::Alias(alias)) => return alias.run(&self.target).await,
            Some(Command::Rollout(rollout)) => return rollout.run(&self.target).await,
            Some(Command::Shadow(shadow)) => return shadow.run(&self.target).await,
        };
        let client = self.target.client()?;
        let answer = match &model {
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
        let models = match model {
            Some(_) => vec![answer],
            None => answer["models"].as_array().cloned().unwrap_or_default(),
        };
        if models.is_empty() {
            return text::say("no models yet: an app registers them, or `tidegate models register`\n");
        }
        models.iter().try_for_each(say)
    }
}

/// A model with its versions, the newest first.
fn say(model: &Value) -> Result<()> {
    let name = text::painted(field(model, "name"), Colour::Bold, text::coloured());
    text::say(&format!("{name}\n"))?;
    let versions = model["versions"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = versions.iter().map(|version| row(version, model)).collect();
    text::say_rows(&rows)?;
    match model.get("rollout") {
        Some(rollout) => rollout::say(rollout),
        None => Ok(()),
    }
}

/// What a version is to an alias: the one that answers, one of two, or one that is only asked.
fn names(version: &Value, model: &Value) -> String {
    let number = version.to_string();
    let aliases = model["aliases"].as_object().into_iter().flatten();
    let named = aliases.filter_map(|(alias, target)| {
        let share = &model["splits"][alias][&number];
        match share.as_u64() {
            Some(share) => Some(format!("{alias} {share} %")),
            None if target == version => Some(alias.clone()),
            None if model["shadows"][alias] == *version => Some(format!("shadow of {alias}")),
            None => None,
        }
    });
    named.collect::<Vec<_>>().join(", ")
}

fn row(version: &Value, model: &Value) -> Vec<Cell> {
    let number = &version["version"];
    let metric = |name: &str| {
        version["metrics"][name]
            .as_f64()
            .map(|value| format!("{name} {value:.4}"))
    };
    vec![
        Cell::new(format!("  {number}")).right(),
        Cell::new(names(number, model)).colour(Colour::Green),
        Cell::new(field(version, "decision")),
        Cell::new(metric("auc").unwrap_or_default()),
        Cell::new(metric("log_loss").unwrap_or_default()),
        Cell::new(date(version["created"].as_u64().unwrap_or_default())).colour(Colour::Dim),
        Cell::new(tame(field(version, "reason"))),
    ]
}
