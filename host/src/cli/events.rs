//! `tidegate events`: what happens, as it happens.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::text::{self, Colour, clock, colour_of, cut, duration, field, painted, tame};
use super::{Target, stream};

/// Most objects start nothing, and those that do are seen by what they start.
const OBJECT_CREATED: &str = "tidegate.object.created";
/// Milliseconds between two lines of progress of one function.
const PROGRESS: u64 = 1000;
/// Follows what happens, as it happens
#[derive(Args)]
pub struct Events {
    /// Of this run only
    #[arg(long)]
    run: Option<String>,
    /// Every object and every bit of progress too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

impl Events {
    pub(super) async fn run(self) -> Result<()> {
        let client = self.target.client()?;
        let mut query = vec![("follow", "true".to_owned())];
        query.extend(self.run.map(|run| ("run", run)));
        let answer = client
            .send(client.request(Method::GET, "/api/v1/events").query(&query))
            .await?;
        let mut calm = Calm {
            all: self.all,
            json: self.target.json,
            shown: HashMap::new(),
        };
        stream::notices(answer, |data| calm.show(data)).await
    }
}

/// Shows notices, and leaves out what would drown the rest.
struct Calm {
    all: bool,
    json: bool,
    /// When progress was shown last, by run and function.
    shown: HashMap<(String, String), u64>,
}

impl Calm {
    fn show(&mut self, data: &str) -> Result<()> {
        if self.json {
            return text::say(&format!("{data}\n"));
        }
        let notice: Value =
            serde_json::from_str(data).context("the host sent something else than a notice")?;
        if self.all || self.matters(&notice) {
            text::say(&format!("{}\n", line_of(&notice, text::coloured())))?;
        }
        Ok(())
    }

    /// Not each object, and progress once a second at most.
    fn matters(&mut self, notice: &Value) -> bool {
        match field(notice, "kind") {
            "event" => field(notice, "type") != OBJECT_CREATED,
            "progress" => {
                let at = notice["at"].as_u64().unwrap_or_default();
                let who = (
                    field(notice, "run").to_owned(),
                    field(notice, "function").to_owned(),
                );
                let due = self.shown.get(&who).is_none_or(|last| at >= last + PROGRESS);
                let finished = notice["done"].is_u64() && notice["done"] == notice["total"];
                if due {
                    self.shown.insert(who, at);
                }
                due || finished
            }
            "done" | "dead" | "paused" => {
                self.shown.remove(&(
                    field(notice, "run").to_owned(),
                    field(notice, "function").to_owned(),
                ));
                true
            }
            _ => true,
        }
    }
}

/// One notice in one line.
fn line_of(notice: &Value, colours: bool) -> String {
    let kind = field(notice, "kind");
    let run = field(notice, "run");
    let mut parts = vec![
        painted(
            &clock(notice["at"].as_u64().unwrap_or_default()),
            Colour::Dim,
            colours,
        ),
        painted(
            run.get(run.len().saturating_sub(6)..).unwrap_or(run),
            Colour::Dim,
            colours,
        ),
        painted(&format!("{kind:<8}"), colour_of(kind), colours),
        format!("{:<10}", field(notice, "function")),
        format!("{:<24}", tame(field(notice, "type"))),
    ];
    let subject = field(notice, "subject");
    if !subject.is_empty() {
        parts.push(tame(subject));
    }
    if let Some(took) = notice["duration_ms"].as_f64() {
        parts.push(duration(took));
    }
    if let (Some(done), total) = (notice["done"].as_u64(), notice["total"].as_u64()) {
        let total = total.map(|total| format!("/{total}")).unwrap_or_default();
        parts.push(format!("{done}{total} {}", field(notice, "unit")));
    }
    for name in ["message", "reason"] {
        if let Some(text) = notice[name].as_str() {
            parts.push(cut(&tame(text), 300));
        }
    }
    parts.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_line() {
        let notice = serde_json::json!({
            "at": 0, "run": "01ABCDEFGH", "event": "e", "kind": "retry", "type": "DataReady", "function": "validate",
            "subject": "s", "duration_ms": 12.0, "reason": "a\nb",
        });
        let line = line_of(&notice, false);
        assert!(line.contains("CDEFGH  retry     validate    DataReady"), "{line}");
        assert!(line.ends_with("s  12 ms  a b"), "{line}");
    }

    #[test]
    fn progress_is_calm_and_its_end_is_shown() {
        let mut calm = Calm {
            all: false,
            json: false,
            shown: HashMap::new(),
        };
        let mut matters = |at: u64, done: u64| {
            let notice = serde_json::json!({ "kind": "progress", "run": "r", "function": "f", "at": at, "done": done, "total": 9 });
            calm.matters(&notice)
        };
        assert_eq!(
            [matters(0, 1), matters(500, 2), matters(1000, 3), matters(1100, 9)],
            [true, false, true, true]
        );
        assert!(!calm.matters(&serde_json::json!({ "kind": "event", "type": OBJECT_CREATED })));
        assert!(calm.matters(&serde_json::json!({ "kind": "event", "type": "DataReady" })));
    }

    #[test]
    fn a_run_of_any_text_is_shown() {
        line_of(&serde_json::json!({ "run": "ü", "kind": "event" }), false);
    }
}
