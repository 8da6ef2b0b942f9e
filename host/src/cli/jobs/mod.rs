//! `tidegate jobs`: what the workers do, one file for each thing that can be asked of one job.

mod cancel;
mod show;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::Client;
use super::text::{self, Cell, Colour, colour_of, date, duration, field, tame};
use super::{Target, client};

/// How often a live picture is drawn again.
const AGAIN: Duration = Duration::from_secs(1);
/// Cells of a bar.
const BAR: u64 = 20;

/// Shows the jobs of the workers, the latest first; `jobs show` one of them, `jobs cancel` ends one
#[derive(Args)]
pub struct Jobs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Jobs at most
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Go on until no job waits or runs, with live bars on a terminal
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    Show(show::Show),
    Cancel(cancel::Cancel),
}

impl Jobs {
    pub(super) async fn run(self) -> Result<()> {
        match self.command {
            Some(Command::Show(show)) => return show.run(&self.target).await,
            Some(Command::Cancel(cancel)) => return cancel.run(&self.target).await,
            None => {}
        }
        let client = self.target.client()?;
        let query = [("limit", self.limit.to_string())];
        let ask = async || client.get("/api/v1/jobs", &query).await;
        if self.target.json {
            return text::say_json(&ask().await?);
        }
        let mut picture = Picture::default();
        loop {
            let answer = ask().await?;
            let jobs = answer["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
            if jobs.is_empty() {
                return text::say("no jobs yet: a function submits them\n");
            }
            picture.draw(&text::aligned(
                &jobs.iter().map(row).collect::<Vec<_>>(),
                text::coloured(),
            ))?;
            if !self.follow || !jobs.iter().any(goes_on) {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Whether a job waits or runs.
fn goes_on(job: &Value) -> bool {
    matches!(field(job, "phase"), "queued" | "running")
}

/// One job, as the host tells of it.
async fn ask(client: &Client, id: &str) -> Result<Value> {
    client
        .get(&format!("/api/v1/jobs/{}", client::part(id)), &[])
        .await
}

/// A text that takes the place of the one before, on a terminal; elsewhere it is said when it has changed.
#[derive(Default)]
struct Picture {
    drawn: String,
}

impl Picture {
    fn draw(&mut self, text: &str) -> Result<()> {
        if text == self.drawn {
            return Ok(());
        }
        let lines = self.drawn.lines().count();
        if lines > 0 && std::io::stdout().is_terminal() {
            text::say(&format!("\x1b[{lines}A\x1b[J{text}"))?;
        } else {
            text::say(text)?;
        }
        text.clone_into(&mut self.drawn);
        Ok(())
    }
}

fn row(job: &Value) -> Vec<Cell> {
    let phase = field(job, "phase");
    let created = job["created"].as_u64().unwrap_or_default();
    let took = job["finished"]
        .as_u64()
        .map(|end| duration(end.saturating_sub(created) as f64))
        .unwrap_or_default();
    vec![
        Cell::new(text::cut(field(job, "id"), 26)).colour(Colour::Dim),
        Cell::new(field(job, "kind")),
        Cell::new(phase).colour(colour_of(phase)),
        Cell::new(format!("attempt {}", job["attempt"])),
        Cell::new(date(created)),
        Cell::new(took).right(),
        Cell::new(detail(job)),
    ]
}

/// A bar with the progress, the reason of a failure, why nobody takes it, or nothing.
pub(super) fn detail(job: &Value) -> String {
    if let Some(reason) = job["stuck"].as_str() {
        return tame(reason);
    }
    let detail = &job["detail"];
    if let Some(reason) = detail["reason"].as_str() {
        return tame(reason);
    }
    match (detail["done"].as_u64(), detail["total"].as_u64()) {
        (Some(done), Some(total)) if field(job, "phase") == "running" => {
            let (unit, message) = (field(detail, "unit"), tame(field(detail, "message")));
            format!("{} {done}/{total} {unit} {message}", bar(done, total))
        }
        _ => String::new(),
    }
}

fn bar(done: u64, total: u64) -> String {
    let filled = (done.min(total) * BAR).checked_div(total).unwrap_or(0);
    format!(
        "{}{}",
        "▇".repeat(filled as usize),
        "·".repeat((BAR - filled) as usize)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_matters_most_of_a_job_is_told() {
        let job = json!({ "phase": "running", "detail": { "done": 5, "total": 20, "unit": "steps", "message": "epoch 1" } });
        assert_eq!(detail(&job), "▇▇▇▇▇··············· 5/20 steps epoch 1");
        let stuck = json!({ "phase": "queued", "stuck": "no worker takes `x`", "detail": null });
        assert_eq!(detail(&stuck), "no worker takes `x`");
        let failed = json!({ "phase": "failed", "detail": { "reason": "a\nb" } });
        assert_eq!(detail(&failed), "a b");
    }

    #[test]
    fn a_bar_without_an_end_is_empty() {
        assert_eq!(bar(0, 0), "·".repeat(20));
        assert_eq!(bar(9, 3), "▇".repeat(20));
    }
}
