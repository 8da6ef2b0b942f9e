//! `tidegate dlq`: events that a function gave up on, one file for each thing that can be done with them.

mod drop;
mod list;
mod redrive;
mod show;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::text::{self, tame};
use super::{Target, millis};

/// Shows, redrives and drops dead letters
#[derive(Args)]
pub struct Dlq {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
    Redrive(redrive::Redrive),
    Drop(drop::Drop),
}

impl Dlq {
    pub(super) async fn run(self) -> Result<()> {
        match self.command {
            Command::List(list) => list.run(&self.target).await,
            Command::Show(show) => show.run(&self.target).await,
            Command::Redrive(redrive) => redrive.run(&self.target).await,
            Command::Drop(drop) => drop.run(&self.target).await,
        }
    }
}

/// Which letters: all that fit in everything given.
#[derive(Args, Debug, Default)]
struct Filter {
    /// Of this function
    #[arg(long)]
    function: Option<String>,
    /// Whose reason contains this
    #[arg(long)]
    reason: Option<String>,
    /// Of this run
    #[arg(long)]
    run: Option<String>,
    /// That died longer ago than this, such as `90m` or `2d`
    #[arg(long, value_parser = millis)]
    older_than: Option<u64>,
    /// That died within this time, such as `90m` or `2d`
    #[arg(long, value_parser = millis)]
    newer_than: Option<u64>,
    /// Only paused steps
    #[arg(long)]
    paused: bool,
    /// Letters at most
    #[arg(long)]
    limit: Option<usize>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        let texts = [&self.function, &self.reason, &self.run];
        texts.iter().all(|text| text.is_none())
            && self.older_than.is_none()
            && self.newer_than.is_none()
            && !self.paused
    }

    /// As the host takes it: what is given, and ages as times.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let now = chrono::Utc::now().timestamp_millis().max(0) as u64;
        let before = |age: &u64| json!(now.saturating_sub(*age));
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        [
            ("function", text(&self.function)),
            ("reason", text(&self.reason)),
            ("run", text(&self.run)),
            ("until", self.older_than.as_ref().map(before)),
            ("since", self.newer_than.as_ref().map(before)),
            ("paused", self.paused.then_some(json!(true))),
            ("limit", self.limit.map(|limit| json!(limit))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Letters by id, or by what they have in common.
#[derive(Args, Debug)]
struct Selection {
    /// Letters, as `tidegate dlq list` calls them
    ids: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Selection {
    /// The body that names the letters; one that names none by mistake is refused.
    fn body(&self) -> Result<Value> {
        match (self.ids.is_empty(), self.filter.is_empty(), self.all) {
            (false, true, false) => Ok(json!({ "ids": self.ids })),
            (true, false, false) | (true, true, true) => {
                let fields: serde_json::Map<String, Value> = self
                    .filter
                    .fields()
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect();
                Ok(json!({ "filter": fields }))
            }
            (true, true, false) => {
                bail!("name letters, or say which: `--function`, `--reason`, `--run`, …, or `--all`")
            }
            _ => bail!("name letters or say which with filters or `--all`, not both"),
        }
    }
}

/// Says how many letters something was done with, and why not with others.
pub(super) fn say_moved(answer: &Value, what: &str) -> Result<()> {
    let count = answer[what].as_array().map_or(0, Vec::len);
    text::say(&format!("{count} {what}\n"))?;
    let refused = answer["refused"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for reason in refused.iter().filter_map(Value::as_str) {
        text::say(&format!("{}\n", tame(reason)))?;
    }
    if count == 0 && !refused.is_empty() {
        bail!("nothing was {what}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(ids: &[&str], function: Option<&str>, all: bool) -> Selection {
        Selection {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            all,
            filter: Filter {
                function: function.map(str::to_owned),
                ..Filter::default()
            },
        }
    }

    #[test]
    fn a_selection_says_which_letters_and_never_all_by_mistake() {
        assert_eq!(
            selection(&["f/e"], None, false).body().unwrap(),
            json!({ "ids": ["f/e"] })
        );
        let by_function = selection(&[], Some("f"), false).body().unwrap();
        assert_eq!(by_function, json!({ "filter": { "function": "f" } }));
        assert_eq!(
            selection(&[], None, true).body().unwrap(),
            json!({ "filter": {} })
        );
        assert!(selection(&[], None, false).body().is_err());
        assert!(selection(&["f/e"], Some("f"), false).body().is_err());
        assert!(selection(&["f/e"], None, true).body().is_err());
    }

    #[test]
    fn ages_are_durations() {
        assert_eq!(millis("90m"), Ok(5_400_000));
        assert!(millis("soon").is_err());
    }
}
