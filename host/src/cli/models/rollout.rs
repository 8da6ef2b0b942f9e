//! `tidegate models rollout`: gives a version the champion's requests, in stages.

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use tidegate_ml::rollout::Policy;

use crate::cli::text::{self, field};
use crate::cli::{Target, client, millis};

/// Gives a version more and more of the champion's requests, and takes them back when it degrades
#[derive(Args)]
pub(super) struct Rollout {
    /// The model
    model: String,
    /// The version that may become the champion
    #[arg(required_unless_present = "stop")]
    version: Option<u64>,
    /// Its share of 100 in each stage
    #[arg(long, value_delimiter = ',', default_values_t = Policy::default().stages)]
    stages: Vec<u64>,
    /// Requests that either version has to have had in a stage
    #[arg(long, default_value_t = Policy::default().min_requests)]
    min_requests: u64,
    /// How long a stage takes at least
    #[arg(long, default_value = "10m", value_parser = millis)]
    min_time: u64,
    /// How long it is watched once it is the champion, and given up again when it degrades; `0s` for not at all
    #[arg(long, default_value = "1h", value_parser = millis)]
    watch: u64,
    /// By how much the part of its requests that fail may be larger than the champion's
    #[arg(long, default_value_t = Policy::default().max_error_rate)]
    max_error_rate: f64,
    /// How many times as long as the champion's the 99th percentile of its latency may be
    #[arg(long, default_value_t = Policy::default().max_latency_ratio)]
    max_latency_ratio: f64,
    /// By how much its scores may drift from the champion's (population stability index)
    #[arg(long, default_value_t = Policy::default().max_drift)]
    max_drift: f64,
    /// Ends the rollout that goes on: the champion, or the former one, gets all requests back
    #[arg(long, conflicts_with = "version")]
    stop: bool,
}

impl Rollout {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let client = target.client()?;
        let path = format!("/api/v1/models/{}/rollout", client::part(&self.model));
        let answer = match self.version {
            None => client.json(client.request(Method::DELETE, &path)).await?,
            Some(version) => {
                let policy = Policy {
                    stages: self.stages,
                    min_requests: self.min_requests,
                    min_time_ms: self.min_time,
                    watch_ms: self.watch,
                    max_error_rate: self.max_error_rate,
                    max_latency_ratio: self.max_latency_ratio,
                    max_drift: self.max_drift,
                };
                let asked = json!({ "version": version, "policy": policy });
                client.post(&path, &asked).await?
            }
        };
        match target.json {
            true => text::say_json(&answer),
            false => say(&answer),
        }
    }
}

/// Where a rollout stands, and what was measured in its latest stage.
pub(super) fn say(rollout: &Value) -> Result<()> {
    let stages = rollout["policy"]["stages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let stage = rollout["stage"]
        .as_u64()
        .and_then(|stage| usize::try_from(stage).ok());
    let share = stage
        .and_then(|stage| stages.get(stage))
        .cloned()
        .unwrap_or_default();
    let (version, state) = (&rollout["version"], field(rollout, "state"));
    let why = match field(rollout, "reason") {
        "" => String::new(),
        reason => format!(": {}", text::tame(reason)),
    };
    text::say(&format!(
        "  rollout of version {version}, stage of {share} %: {state}{why}\n"
    ))?;
    let measured = &rollout["measured"];
    if measured.is_null() {
        return Ok(());
    }
    let number = |name: &str| {
        measured[name]
            .as_f64()
            .map_or("-".to_owned(), |number| format!("{number:.4}"))
    };
    let beside = match rollout["promoted"].is_null() {
        true => "champion",
        false => "former champion",
    };
    text::say(&format!(
        "  requests {} ({beside} {}), errors {} ({}), p99 ms {} ({}), drift {}\n",
        measured["requests"],
        measured["champion_requests"],
        number("error_rate"),
        number("champion_error_rate"),
        number("p99_ms"),
        number("champion_p99_ms"),
        number("drift"),
    ))
}
