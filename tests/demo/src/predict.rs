//! Asks the served model, as an application would: over HTTPS.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidegate_harness::Api;

use crate::dataset::Dataset;
use crate::screen::{Screen, human};

const SHOWN: usize = 10;

/// Asks for a ranking, and prints it.
pub async fn ask(api: &Api, dataset: &Dataset, screen: &Screen) -> Result<()> {
    let question =
        json!({ "user_id": dataset.user, "item_ids": dataset.items, "context": { "device": "mobile" } });
    // The first answer pays for the connection and for loading the model; people ask more than once.
    api.post("/predict", &question)
        .await
        .context("the model does not answer")?;
    let asked = Instant::now();
    let answer = api
        .post("/predict", &question)
        .await
        .context("the model does not answer")?;
    let took = asked.elapsed();
    let predictions = answer["predictions"]
        .as_array()
        .context("the answer has no `predictions`")?;
    ensure!(
        predictions.len() == dataset.items.len(),
        "asked about {} items, answered {answer}",
        dataset.items.len()
    );
    let headline = format!("POST {}/predict", api.base());
    screen.say(&format!("\n{}   {question}", screen.bold(&headline)));
    let version = match &answer["model_version"] {
        Value::String(version) => version.clone(),
        other => other.to_string(),
    };
    screen.say(&format!(
        "{} items ranked by model version {version} in {}:\n",
        predictions.len(),
        human(took)
    ));
    print_ranking(&answer, dataset, screen)
}

fn print_ranking(answer: &Value, dataset: &Dataset, screen: &Screen) -> Result<()> {
    let scores = answer["predictions"]
        .as_array()
        .context("the answer has no `predictions`")?;
    let ranked = answer["ranked_items"]
        .as_array()
        .context("the answer has no `ranked_items`")?;
    for (place, item) in ranked.iter().filter_map(Value::as_i64).take(SHOWN).enumerate() {
        let score = scores
            .iter()
            .find(|scored| scored["item_id"] == item)
            .and_then(|scored| scored["score"].as_f64());
        let score = score.with_context(|| format!("item {item} is ranked and has no score"))?;
        let bar = "▇".repeat((score * 30.0).round().clamp(0.0, 30.0) as usize);
        screen.say(&format!(
            "  {:>2}. {item:>7}  {score:.4}  {bar:<30}  {}",
            place + 1,
            dataset.title(item)
        ));
    }
    Ok(())
}
