//! `tidegate logs`: what functions said.

use anyhow::Result;
use clap::Args;

use super::Target;
use super::text::{self, Cell, Colour, clock, colour_of, field, function_of, tame};

/// Shows what functions logged
#[derive(Args)]
pub struct Logs {
    /// Of this run only
    #[arg(long)]
    run: Option<String>,
    /// Of this function only
    #[arg(long)]
    function: Option<String>,
    /// Lines at most, the latest
    #[arg(long, default_value_t = 200)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl Logs {
    pub(super) async fn run(self) -> Result<()> {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.run.map(|run| ("run", run)));
        query.extend(self.function.map(|function| ("function", function)));
        let answer = self.target.client()?.get("/api/v1/logs", &query).await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let lines = answer["lines"].as_array().cloned().unwrap_or_default();
        if lines.is_empty() {
            return text::say("nothing logged\n");
        }
        let rows: Vec<_> = lines
            .iter()
            .map(|line| {
                let level = field(line, "level");
                vec![
                    Cell::new(clock(line["at"].as_u64().unwrap_or_default())).colour(Colour::Dim),
                    Cell::new(level).colour(colour_of(level)),
                    Cell::new(function_of(line)),
                    Cell::new(tame(field(line, "message"))),
                ]
            })
            .collect();
        text::say_rows(&rows)
    }
}
