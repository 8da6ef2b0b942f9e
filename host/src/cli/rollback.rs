//! `tidegate rollback`: back to the versions that were live before.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::Target;
use super::text::{self, Cell, field};

/// Takes the last change of the live versions back, of a function or of a whole app
#[derive(Args)]
pub struct Rollback {
    /// The function or the app
    name: String,
    /// The app, where a function has the same name
    #[arg(long)]
    app: bool,
    #[command(flatten)]
    target: Target,
}

impl Rollback {
    pub(super) async fn run(self) -> Result<()> {
        let asked = json!({ "name": self.name, "app": self.app });
        let answer = self.target.client()?.post("/api/v1/rollback", &asked).await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let functions = answer["functions"].as_array().cloned().unwrap_or_default();
        let concerned = functions
            .iter()
            .filter(|function| field(function, "name") == self.name || field(function, "app") == self.name);
        let rows: Vec<_> = concerned.map(row).collect();
        text::say_rows(&rows)
    }
}

fn row(function: &Value) -> Vec<Cell> {
    let live = function["live"].as_object();
    let shares = live
        .into_iter()
        .flatten()
        .map(|(version, share)| format!("{version}={share}"));
    vec![
        Cell::new(field(function, "name")),
        Cell::new(format!("live {}", shares.collect::<Vec<_>>().join(","))),
    ]
}
