//! `tidegate dlq redrive`: sends events through their functions again.

use anyhow::Result;
use clap::Args;

use super::{Selection, say_moved};
use crate::cli::Target;
use crate::cli::text;

/// Sends events through their functions again, with all attempts before them
#[derive(Args)]
pub(super) struct Redrive {
    #[command(flatten)]
    letters: Selection,
    /// No faster than this, such as `10/s` or `30/m`
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
}

impl Redrive {
    pub(super) async fn run(self, target: &Target) -> Result<()> {
        let mut body = self.letters.body()?;
        if let Some(rate) = self.rate {
            body["rate"] = rate.into();
        }
        let answer = target.client()?.post("/api/v1/dlq/redrive", &body).await?;
        if target.json {
            return text::say_json(&answer);
        }
        say_moved(&answer, "redriven")
    }
}

/// Letters a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.split_once('/').and_then(|(count, unit)| {
        let seconds = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Some(f64::from(count.parse::<u32>().ok().filter(|count| *count > 0)?) / seconds)
    });
    rate.ok_or_else(|| format!("`{text}` is no rate such as `10/s`, `30/m` or `100/h`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_number_and_a_time() {
        assert_eq!(rate("10/s"), Ok(10.0));
        assert_eq!(rate("30/m"), Ok(0.5));
        for wrong in ["10", "0/s", "-1/s", "10/d", "x/s", "1.5/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
