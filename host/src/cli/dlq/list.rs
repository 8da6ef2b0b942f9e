//! `tidegate dlq list`: dead letters, the latest first.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::Filter;
use crate::cli::Target;
use crate::cli::text::{self, Cell, Colour, colour_of, cut, date, field, tame};

/// Lists dead letters, the latest first
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
}

impl List {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let query: Vec<(&str, String)> = self
            .filter
            .fields()
            .into_iter()
            .map(|(name, value)| {
                (
                    name,
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned),
                )
            })
            .collect();
        let answer = target.client()?.get("/api/v1/dlq", &query).await?;
        if target.json {
            return text::say_json(&answer);
        }
        let letters = answer["letters"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if letters.is_empty() {
            return text::say("no dead letters\n");
        }
        text::say_rows(&letters.iter().map(row).collect::<Vec<_>>())
    }
}

fn row(letter: &Value) -> Vec<Cell> {
    let paused = letter["paused"].as_bool().unwrap_or_default();
    let state = if paused { "paused" } else { "dead" };
    let what = format!("{} {}", field(letter, "type"), tame(field(letter, "subject")));
    vec![
        Cell::new(tame(field(letter, "id"))).colour(Colour::Bold),
        Cell::new(state).colour(colour_of(state)),
        Cell::new(date(letter["at"].as_u64().unwrap_or_default())).colour(Colour::Dim),
        Cell::new(cut(what.trim(), 40)).colour(Colour::Dim),
        Cell::new(format!("{} tries", letter["attempts"])).right(),
        Cell::new(cut(&tame(field(letter, "reason")), 120)).colour(colour_of(state)),
    ]
}
