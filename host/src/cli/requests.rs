//! `tidegate requests`: what HTTP functions answered, and what it took.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::runs::{effects, usage};
use super::text::{self, Cell, Colour, clock, cut, duration, field, function_of, tame};
use super::{Target, millis};

/// Shows the requests that HTTP functions have handled, the latest last
#[derive(Args)]
pub struct Requests {
    /// To this function only
    #[arg(long)]
    function: Option<String>,
    /// Not older than this, for example 10m
    #[arg(long, value_parser = millis)]
    since: Option<u64>,
    /// Only those that failed, or were answered with a status of 500 or more
    #[arg(long)]
    failed: bool,
    /// Requests at most, the latest
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl Requests {
    pub(super) async fn run(self) -> Result<()> {
        let client = self.target.client()?;
        let answer = client.get("/api/v1/requests", &self.query()).await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let requests = answer["requests"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if requests.is_empty() {
            return text::say("no such requests\n");
        }
        // The latest stands last, where the eye is.
        text::say_rows(&requests.iter().rev().map(row).collect::<Vec<_>>())
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let now = chrono::Utc::now().timestamp_millis().max(0) as u64;
        let since = self.since.map(|age| now.saturating_sub(age));
        let mut query = vec![
            ("limit", self.limit.to_string()),
            ("failed", self.failed.to_string()),
        ];
        query.extend(self.function.clone().map(|function| ("function", function)));
        query.extend(since.map(|since| ("since", since.to_string())));
        query
    }
}

fn row(request: &Value) -> Vec<Cell> {
    let status = request["status"].as_u64().unwrap_or_default();
    let asked = format!("{} {}", field(request, "method"), field(request, "path"));
    let took = request["duration_ms"].as_f64().map(duration).unwrap_or_default();
    vec![
        Cell::new(clock(request["started"].as_u64().unwrap_or_default())).colour(Colour::Dim),
        Cell::new(field(request, "run")).colour(Colour::Dim),
        Cell::new(function_of(request)),
        Cell::new(cut(&tame(&asked), 60)),
        Cell::new(status.to_string()).colour(colour_of(status)),
        Cell::new(took).right(),
        match field(request, "reason") {
            "" => Cell::new(taken(request)).colour(Colour::Dim),
            reason => Cell::new(cut(&tame(reason), 200)).colour(Colour::Red),
        },
    ]
}

fn colour_of(status: u64) -> Colour {
    match status {
        500.. => Colour::Red,
        400.. => Colour::Yellow,
        _ => Colour::Green,
    }
}

/// What it took besides time, and what it left.
fn taken(request: &Value) -> String {
    let start = if request["usage"]["warm"] == true {
        "warm"
    } else {
        "cold"
    };
    let lines = match request["lines"].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => ", 1 line".into(),
        Some(lines) => format!(", {lines} lines"),
    };
    let (usage, effects) = (usage(&request["usage"]), effects(&request["effects"]));
    format!("{start}, {usage}{effects}{lines}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_tells_what_it_took_or_why_it_failed() {
        let mut request = json!({
            "run": "R", "function": "rank", "version": 3, "method": "POST", "path": "/predict", "status": 200,
            "started": 0, "duration_ms": 2.2, "lines": 1, "effects": { "events": 2 },
            "usage": { "warm": true, "cpu_ms": 0.6, "peak_memory": 1 << 20 },
        });
        let shown = |request: &Value| text::aligned(&[row(request)], false);
        let whole = shown(&request);
        let end = "R  rank@3  POST /predict  200  2.2 ms  warm, cpu 0.6 ms, 1.0 MiB, 2 events, 1 line\n";
        assert!(whole.ends_with(end), "{whole}");
        request["reason"] = "limit `cpu_time` of 1s reached".into();
        assert!(shown(&request).ends_with("2.2 ms  limit `cpu_time` of 1s reached\n"));
    }
}
