//! `tidegate versions`: the versions of functions that are kept, and which of them take events and requests.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::Target;
use super::text::{self, Cell, Colour, date, field};

/// Shows the versions of functions, the latest last
#[derive(Args)]
pub struct Versions {
    /// Of this function
    function: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Versions {
    pub(super) async fn run(self) -> Result<()> {
        let function = self.function.map(|function| ("function", function));
        let query: Vec<_> = function.into_iter().collect();
        let answer = self.target.client()?.get("/api/v1/versions", &query).await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        say(&answer)
    }
}

/// A row for each version.
pub(super) fn say(answer: &Value) -> Result<()> {
    let versions = answer["versions"].as_array().cloned().unwrap_or_default();
    if versions.is_empty() {
        return text::say("no versions yet: `tidegate deploy` makes them\n");
    }
    let rows: Vec<_> = versions.iter().map(row).collect();
    text::say_rows(&rows)
}

fn row(version: &Value) -> Vec<Cell> {
    let state = field(version, "state");
    let colour = if state == "live" {
        Colour::Green
    } else {
        Colour::Dim
    };
    let share = |(alias, share): (&String, &Value)| format!("{alias} {share} %");
    let aliases = version["aliases"].as_object().into_iter().flatten().map(share);
    vec![
        Cell::new(field(version, "function")),
        Cell::new(version["version"].to_string()).right(),
        Cell::new(state).colour(colour),
        Cell::new(aliases.collect::<Vec<_>>().join(", ")),
        Cell::new(text::cut(field(version, "digest"), 12)).colour(Colour::Dim),
        Cell::new(date(version["at"].as_u64().unwrap_or_default())).colour(Colour::Dim),
    ]
}
