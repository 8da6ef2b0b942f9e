//! `tidegate jobs show`: one job, with the metrics of its epochs.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value};

use super::{AGAIN, Picture, ask, detail, goes_on};
use crate::cli::Target;
use crate::cli::text::{self, Cell, Colour, colour_of, date, duration, field};

/// Epochs that are shown, the latest.
const EPOCHS: usize = 50;

/// Shows one job: where it is, on which terms, and its metrics per epoch
#[derive(Args)]
pub(super) struct Show {
    /// The job
    job: String,
    /// Go on until it has ended, with a live bar on a terminal
    #[arg(long)]
    follow: bool,
}

impl Show {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let client = target.client()?;
        if target.json {
            return text::say_json(&ask(&client, &self.job).await?);
        }
        let mut picture = Picture::default();
        loop {
            let job = ask(&client, &self.job).await?;
            picture.draw(&shown(&job, text::coloured()))?;
            if !self.follow || !goes_on(&job) {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn shown(job: &Value, colours: bool) -> String {
    let phase = field(job, "phase");
    let line = |name: &str, value: String| {
        let empty = value.is_empty();
        (!empty).then(|| vec![Cell::new(name).colour(Colour::Dim), Cell::new(value)])
    };
    let took = job["started"].as_u64().zip(job["finished"].as_u64());
    let took = took.map(|(start, end)| duration(end.saturating_sub(start) as f64));
    let mut lines = vec![vec![
        Cell::new(phase).colour(colour_of(phase)),
        Cell::new(format!("{} {}", field(job, "kind"), field(job, "id"))).colour(Colour::Bold),
    ]];
    lines.extend(
        [
            line("submitted", date(job["created"].as_u64().unwrap_or_default())),
            line("attempt", job["attempt"].to_string()),
            line("took", took.unwrap_or_default()),
            line("worker", field(job, "worker").to_owned()),
            line("terms", terms(&job["terms"])),
            line("run", field(job, "run").to_owned()),
            line("", detail(job)),
        ]
        .into_iter()
        .flatten(),
    );
    text::aligned(&lines, colours) + &epochs(&job["detail"]["history"], colours)
}

/// What was asked for.
fn terms(terms: &Value) -> String {
    let asked = terms.as_object().into_iter().flatten();
    let is_usual = |name: &str, value: &Value| value.is_null() || (name == "priority" && *value == 0);
    let asked = asked.filter(|(name, value)| !is_usual(name, value));
    asked
        .map(|(name, value)| {
            format!(
                "{name} {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A row of metrics for each epoch.
fn epochs(history: &Value, colours: bool) -> String {
    let history = history.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = &history[history.len().saturating_sub(EPOCHS)..];
    let Some(names) = shown.first().and_then(Value::as_object).map(names) else {
        return String::new();
    };
    let head = names
        .iter()
        .map(|name| Cell::new(name.as_str()).colour(Colour::Dim).right());
    let mut rows = vec![head.collect::<Vec<_>>()];
    rows.extend(shown.iter().map(|epoch| {
        let cells = names.iter().map(|name| Cell::new(number(&epoch[name])).right());
        cells.collect()
    }));
    format!("\n{}", text::aligned(&rows, colours))
}

/// The epoch, then its metrics.
fn names(epoch: &Map<String, Value>) -> Vec<String> {
    let metrics = epoch.keys().filter(|name| *name != "epoch").cloned();
    std::iter::once("epoch".to_owned()).chain(metrics).collect()
}

fn number(value: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        (None, Some(number)) => format!("{number:.4}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_shown_with_what_it_asked_for_and_its_epochs() {
        let job = json!({
            "id": "J", "kind": "train.mlp", "phase": "succeeded", "attempt": 2, "created": 0, "started": 1000,
            "finished": 3000, "run": "R", "worker": null, "stuck": null,
            "terms": { "priority": 0, "device": "cuda", "memory": null, "timeout_ms": 5000, "attempts": null },
            "detail": { "history": [{ "epoch": 1, "loss": 0.5, "validation_auc": 0.75 }, { "epoch": 2, "loss": 0.25, "validation_auc": 0.8 }] },
        });
        let text = shown(&job, false);
        for part in [
            "succeeded  train.mlp J",
            "took       2.0 s",
            "device cuda, timeout_ms 5000",
            "epoch    loss  validation_auc",
            "    2  0.2500          0.8000",
        ] {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
    }

    #[test]
    fn a_job_without_epochs_has_no_table() {
        assert_eq!(epochs(&Value::Null, false), "");
        assert_eq!(epochs(&json!([1]), false), "");
    }
}
