//! `tidegate logs`: what functions said, what they say, and where in it a text is.

use std::collections::HashSet;

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::client::Client;
use super::text::{self, Cell, Colour, clock, colour_of, field, function_of, tame};
use super::{Target, millis, stream};

/// Shows what functions logged
#[derive(Args)]
pub struct Logs {
    /// Of this run only
    #[arg(long)]
    run: Option<String>,
    /// Of this function only
    #[arg(long)]
    function: Option<String>,
    /// Not older than this, for example 10m
    #[arg(long, value_parser = millis)]
    since: Option<u64>,
    /// Only lines with this text in them
    #[arg(long)]
    grep: Option<String>,
    /// Goes on with what is logged from now on
    #[arg(long)]
    follow: bool,
    /// Lines at most, the latest
    #[arg(long, default_value_t = 200)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl Logs {
    pub(super) async fn run(self) -> Result<()> {
        let client = self.target.client()?;
        if !self.follow {
            return self.show(&self.kept(&client).await?);
        }
        // Followed first, so that no line falls between what is kept and what comes.
        let mut query = vec![("follow", "true".to_owned())];
        query.extend(self.run.clone().map(|run| ("run", run)));
        let request = client.request(Method::GET, "/api/v1/events").query(&query);
        let coming = client.send(request).await?;
        let kept = self.kept(&client).await?;
        self.print(&lines_of(&kept))?;
        let shown: HashSet<String> = lines_of(&kept).iter().map(name_of).collect();
        stream::notices(coming, |data| {
            let notice: Value = serde_json::from_str(data)?;
            if self.fits(&notice) && !shown.contains(&name_of(&notice)) {
                self.print(&[notice])?;
            }
            Ok(())
        })
        .await
    }

    async fn kept(&self, client: &Client) -> Result<Value> {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.run.clone().map(|run| ("run", run)));
        query.extend(self.function.clone().map(|function| ("function", function)));
        query.extend(self.grep.clone().map(|text| ("grep", text)));
        let now = chrono::Utc::now().timestamp_millis().max(0) as u64;
        let since = self.since.map(|age| now.saturating_sub(age));
        query.extend(since.map(|since| ("since", since.to_string())));
        client.get("/api/v1/logs", &query).await
    }

    fn show(&self, answer: &Value) -> Result<()> {
        if self.target.json {
            return text::say_json(answer);
        }
        let lines = lines_of(answer);
        if lines.is_empty() {
            text::say("nothing logged\n")?;
        }
        self.print(&lines)?;
        if answer["complete"] == false {
            text::say("older lines were not searched; name a run\n")?;
        }
        Ok(())
    }

    fn print(&self, lines: &[Value]) -> Result<()> {
        if self.target.json {
            return lines.iter().try_for_each(|line| text::say(&format!("{line}\n")));
        }
        let rows: Vec<_> = lines.iter().map(row).collect();
        text::say_rows(&rows)
    }

    /// Whether a notice is a line that is wanted.
    fn fits(&self, notice: &Value) -> bool {
        field(notice, "kind") == "log"
            && self
                .function
                .as_ref()
                .is_none_or(|function| field(notice, "function") == function)
            && self
                .grep
                .as_ref()
                .is_none_or(|text| field(notice, "message").contains(text.as_str()))
    }
}

fn lines_of(answer: &Value) -> Vec<Value> {
    answer["lines"].as_array().cloned().unwrap_or_default()
}

/// What a line is known by, kept or just told.
fn name_of(line: &Value) -> String {
    format!(
        "{} {} {}",
        line["at"],
        field(line, "event"),
        field(line, "message")
    )
}

fn row(line: &Value) -> Vec<Cell> {
    let level = field(line, "level");
    vec![
        Cell::new(clock(line["at"].as_u64().unwrap_or_default())).colour(Colour::Dim),
        Cell::new(level).colour(colour_of(level)),
        Cell::new(function_of(line)),
        Cell::new(tame(field(line, "message"))),
    ]
}
