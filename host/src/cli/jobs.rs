//! `tidegate jobs`: what the workers do.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::Target;
use super::text::{self, Cell, Colour, colour_of, date, duration, field, tame};

/// Shows the jobs of the workers, the latest first
#[derive(Args)]
pub struct Jobs {
    /// Jobs at most
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl Jobs {
    pub(super) async fn run(self) -> Result<()> {
        let answer = self
            .target
            .client()?
            .get("/api/v1/jobs", &[("limit", self.limit.to_string())])
            .await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let jobs = answer["jobs"].as_array().cloned().unwrap_or_default();
        if jobs.is_empty() {
            return text::say("no jobs yet: a function submits them\n");
        }
        text::say_rows(&jobs.iter().map(row).collect::<Vec<_>>())
    }
}

fn row(job: &Value) -> Vec<Cell> {
    let phase = field(job, "phase");
    let (created, finished) = (
        job["created"].as_u64().unwrap_or_default(),
        job["finished"].as_u64(),
    );
    let took = finished
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

/// Progress, the reason of a failure, or nothing.
pub(super) fn detail(job: &Value) -> String {
    let detail = &job["detail"];
    if let Some(reason) = detail["reason"].as_str() {
        return tame(reason);
    }
    match (detail["done"].as_u64(), detail["total"].as_u64()) {
        (Some(done), Some(total)) if field(job, "phase") == "running" => {
            format!(
                "{done}/{total} {} {}",
                field(detail, "unit"),
                tame(field(detail, "message"))
            )
        }
        _ => String::new(),
    }
}
