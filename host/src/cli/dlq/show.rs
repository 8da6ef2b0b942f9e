//! `tidegate dlq show`: one dead letter with everything that is known of it.

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use crate::cli::text::{self, Cell, Colour, clock, colour_of, date, field, tame};
use crate::cli::{Target, client};

/// Shows a dead letter: event, reason, attempts, trace and log lines
#[derive(Args)]
pub(super) struct Show {
    /// The letter, as `tidegate dlq list` calls it
    id: String,
}

impl Show {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let (function, event) = self.id.split_once('/').with_context(|| {
            format!(
                "`{}` is no dead letter; they are called `FUNCTION/EVENT`",
                self.id
            )
        })?;
        let path = format!(
            "/api/v1/dlq/letters/{}/{}",
            client::part(function),
            client::part(event)
        );
        let letter = target.client()?.get(&path, &[]).await?;
        if target.json {
            return text::say_json(&letter);
        }
        text::say_rows(&facts(&letter))?;
        let logs = letter["logs"].as_array().map(Vec::as_slice).unwrap_or_default();
        if logs.is_empty() {
            return Ok(());
        }
        text::say("\nlogs of the last attempt\n")?;
        text::say_rows(&logs.iter().map(line).collect::<Vec<_>>())
    }
}

fn facts(letter: &Value) -> Vec<Vec<Cell>> {
    let event = &letter["event"];
    let fact = |name: &str, value: String| vec![Cell::new(name).colour(Colour::Dim), Cell::new(tame(&value))];
    let paused = letter["paused"].as_bool().unwrap_or_default();
    vec![
        fact("function", field(letter, "function").into()),
        fact("state", if paused { "paused" } else { "dead" }.into()),
        fact("reason", field(letter, "reason").into()),
        fact("failure", field(letter, "kind").into()),
        fact("attempts", letter["attempts"].to_string()),
        fact("died", date(letter["at"].as_u64().unwrap_or_default())),
        fact("run", field(event, "run").into()),
        fact("trace", field(event, "traceparent").into()),
        fact("event", field(event, "id").into()),
        fact("type", field(event, "type").into()),
        fact("subject", field(event, "subject").into()),
        fact("data", data(event)),
    ]
}

/// The event's data as text, where it is text.
fn data(event: &Value) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(field(event, "data_base64"));
    let bytes = bytes.unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => text::cut(&text, 2000),
        Err(binary) => format!("{} bytes", binary.as_bytes().len()),
    }
}

fn line(line: &Value) -> Vec<Cell> {
    let level = field(line, "level");
    vec![
        Cell::new(clock(line["at"].as_u64().unwrap_or_default())).colour(Colour::Dim),
        Cell::new(level).colour(colour_of(level)),
        Cell::new(tame(field(line, "message"))),
    ]
}
