//! `tidegate replay`: what a version would do with a past event, beside what was done.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::text::{self, Cell, Colour, duration, field, tame};
use super::{Target, client};

/// Runs a past event again, in a scratch copy: what it would do is told, and nothing is done
#[derive(Args)]
pub struct Replay {
    /// The event, as `tidegate runs RUN --json` and `tidegate dlq show` name it
    event: String,
    /// The function, where several have the event
    #[arg(long)]
    function: Option<String>,
    /// The version that runs
    #[arg(long, conflicts_with = "alias")]
    version: Option<u64>,
    /// The alias whose version runs [default: live]
    #[arg(long)]
    alias: Option<String>,
    /// Lets it reach the servers that it is granted, where what it does has its effects
    #[arg(long)]
    allow_outbound: bool,
    #[command(flatten)]
    target: Target,
}

impl Replay {
    pub(super) async fn run(self) -> Result<()> {
        let path = format!("/api/v1/events/{}/replay", client::part(&self.event));
        let asked = json!({
            "function": self.function,
            "version": self.version,
            "alias": self.alias,
            "outbound": self.allow_outbound,
        });
        let answer = self.target.client()?.post(&path, &asked).await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        text::say(&headline(&answer))?;
        for line in answer["logs"].as_array().into_iter().flatten() {
            let (level, message) = (field(line, "level"), tame(field(line, "message")));
            text::say(&format!("  {level} {message}\n"))?;
        }
        text::say_rows(&rows(&answer))?;
        match answer["more"].as_u64() {
            Some(more @ 1..) => text::say(&format!("and {more} more effects\n")),
            _ => Ok(()),
        }
    }
}

/// How the replay ended, and below it how the recorded handling did.
fn headline(answer: &Value) -> String {
    let took = duration(answer["duration_ms"].as_f64().unwrap_or_default());
    let ended = match answer["reason"].as_str() {
        None => format!("done in {took}, nothing is committed"),
        Some(reason) => format!("failed after {took}: {}", tame(reason)),
    };
    let recorded = &answer["recorded"];
    let mut before = format!(
        "{} after attempt {}",
        field(recorded, "state"),
        recorded["attempt"]
    );
    if let Some(reason) = recorded["reason"].as_str() {
        before.push_str(&format!(": {}", tame(reason)));
    }
    if answer["compared"] != json!(true) {
        before.push_str("; its effects are not known");
    }
    let [now, then] = [answer, recorded].map(text::function_of);
    format!("replayed  {now}  {ended}\nrecorded  {then}  {before}\n")
}

fn rows(answer: &Value) -> Vec<Vec<Cell>> {
    let compared = answer["compared"] == json!(true);
    let effects = answer["effects"].as_array().into_iter().flatten();
    effects.map(|effect| row(effect, compared)).collect()
}

/// An effect, marked by how it differs from what was done.
fn row(effect: &Value, compared: bool) -> Vec<Cell> {
    let (mark, colour) = match field(effect, "difference") {
        _ if !compared => (" ", Colour::Plain),
        "changed" => ("~", Colour::Yellow),
        "added" => ("+", Colour::Green),
        "missing" => ("-", Colour::Red),
        _ => ("=", Colour::Dim),
    };
    let size = match effect["size"].as_u64() {
        Some(size) => format!("{size} bytes"),
        None => "deleted".to_owned(),
    };
    vec![
        Cell::new(mark).colour(colour),
        Cell::new(field(effect, "kind")).colour(colour),
        Cell::new(tame(field(effect, "name"))).colour(colour),
        Cell::new(size).right(),
        Cell::new(field(effect, "digest")).colour(Colour::Dim),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_tells_how_it_ended_and_what_differs() {
        let recorded =
            json!({ "function": "step", "version": 1, "state": "dead", "attempt": 5, "reason": "no\nluck" });
        let mut answer = json!({
            "function": "step", "version": 2, "duration_ms": 2.0, "compared": true, "recorded": recorded, "reason": null,
        });
        assert_eq!(
            headline(&answer),
            "replayed  step@2  done in 2.0 ms, nothing is committed\n\
             recorded  step@1  dead after attempt 5: no luck\n"
        );
        answer["compared"] = json!(false);
        assert!(headline(&answer).ends_with("; its effects are not known\n"));
        let changed =
            json!({ "difference": "changed", "kind": "state", "name": "t/k", "size": 3, "digest": "ab" });
        let shown = text::aligned(&[row(&changed, true)], false);
        assert_eq!(shown, "~  state  t/k  3 bytes  ab\n");
        let unknown = text::aligned(&[row(&changed, false)], false);
        assert!(!unknown.contains('~'), "{unknown}");
    }
}
