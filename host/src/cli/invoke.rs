//! `tidegate invoke`: calls one function by hand.

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::text::{self, Colour, field};
use super::{Target, client};

/// Calls a function by an event of its own
#[derive(Args)]
pub struct Invoke {
    /// The function
    function: String,
    /// The event's data, as JSON
    #[arg(long, default_value = "{}")]
    data: String,
    #[command(flatten)]
    target: Target,
}

impl Invoke {
    pub(super) async fn run(self) -> Result<()> {
        let data: Value = serde_json::from_str(&self.data)
            .with_context(|| format!("`--data` is no JSON: `{}`", self.data))?;
        let path = format!("/api/v1/functions/{}/invoke", client::part(&self.function));
        let answer = self
            .target
            .client()?
            .post(&path, &json!({ "data": data }))
            .await?;
        if self.target.json {
            return text::say_json(&answer);
        }
        let run = field(&answer, "run");
        let hint = text::painted(
            &format!("follow it with `tidegate runs {run}`"),
            Colour::Dim,
            text::coloured(),
        );
        text::say(&format!("run {run}\n{hint}\n"))
    }
}
