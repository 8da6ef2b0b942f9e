//! `tidegate declared`: functions that are declared beside the platform, and what became of each.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::text::{self, Cell, Colour, field};
use super::{Target, millis};

/// Between two looks while something is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Shows the functions that are declared beside the platform, by Terraform for example
#[derive(Args)]
pub struct Declared {
    /// Of this app, or the one function `APP/FUNCTION`
    name: Option<String>,
    /// Waits until nothing is pending or draining, and fails where something is refused
    #[arg(long)]
    wait: bool,
    /// How long it waits at most
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = millis, requires = "wait")]
    timeout: u64,
    #[command(flatten)]
    target: Target,
}

impl Declared {
    pub(super) async fn run(self) -> Result<()> {
        let declared = match self.wait {
            true => self.settled().await?,
            false => self.ask().await?,
        };
        if self.target.json {
            text::say_json(&json!({ "declared": declared }))?;
        } else if declared.is_empty() {
            text::say("nothing is declared\n")?;
        } else {
            text::say_rows(&declared.iter().map(row).collect::<Vec<_>>())?;
        }
        let refused: Vec<String> = declared.iter().filter_map(refusal).collect();
        if !refused.is_empty() && self.wait {
            bail!("{}", refused.join("\n"));
        }
        refused.iter().for_each(|told| eprintln!("{told}"));
        Ok(())
    }

    /// What is declared, when it has been made so.
    async fn settled(&self) -> Result<Vec<Value>> {
        let begun = Instant::now();
        loop {
            let declared = self.ask().await?;
            let open = |one: &&Value| matches!(field(one, "state"), "pending" | "draining");
            let open: Vec<_> = declared.iter().filter(open).map(name).collect();
            if open.is_empty() {
                return Ok(declared);
            }
            if begun.elapsed() > Duration::from_millis(self.timeout) {
                bail!(
                    "after {:?} still pending or draining: {}",
                    begun.elapsed(),
                    open.join(", ")
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ask(&self) -> Result<Vec<Value>> {
        let answer = self.target.client()?.get("/api/v1/declared", &[]).await?;
        let declared = answer["declared"].as_array().cloned().unwrap_or_default();
        let asked = |one: &Value| {
            let asked = self.name.as_deref();
            asked.is_none_or(|asked| asked == field(one, "app") || asked == name(one))
        };
        Ok(declared.into_iter().filter(asked).collect())
    }
}

fn name(one: &Value) -> String {
    format!("{}/{}", field(one, "app"), field(one, "function"))
}

fn row(one: &Value) -> Vec<Cell> {
    let colour = match field(one, "state") {
        "deployed" => Colour::Green,
        "refused" => Colour::Red,
        _ => Colour::Yellow,
    };
    let version = one["version"]
        .as_u64()
        .map(|version| format!("version {version}"));
    vec![
        Cell::new(name(one)),
        Cell::new(field(one, "state")).colour(colour),
        Cell::new(version.unwrap_or_default()).colour(Colour::Dim),
    ]
}

/// Why it is refused, a line for each reason.
fn refusal(one: &Value) -> Option<String> {
    let reason = one["reason"].as_str()?;
    let lines = reason
        .lines()
        .map(|line| format!("`{}` is refused: {line}", name(one)));
    Some(lines.collect::<Vec<_>>().join("\n"))
}
