//! What the run led to, and what to try next.

use serde_json::Value;
use tidegate_harness::Host;

use crate::Args;
use crate::screen::Screen;

/// Prints the metrics of the test split.
pub fn metrics(model: &Value, screen: &Screen) {
    let decision = model["decision"].as_str().unwrap_or("?");
    let name = model["model"].as_str().unwrap_or("?");
    let headline = format!("model `{name}` version {}: {decision}", model["version"]);
    screen.say(&format!("\n{}", screen.bold(&headline)));
    let metrics = model["metrics"].get("test").unwrap_or(&model["metrics"]);
    for (key, label) in [
        ("auc", "AUC"),
        ("log_loss", "log loss"),
        ("precision_at_10", "precision at 10"),
        ("recall_at_10", "recall at 10"),
        ("ndcg_at_10", "NDCG at 10"),
    ] {
        if let Some(value) = metrics[key].as_f64() {
            screen.say(&format!("  test {label:<16} {value:.4}"));
        }
    }
}

/// Prints what to try next.
pub fn next_steps(host: &Host, args: &Args, screen: &Screen) {
    let gateway = &host.ready.gateway;
    screen.say(&format!("\n{}", screen.bold("What to try next")));
    if !args.keep {
        screen.say("  cargo xtask demo --keep                   the same, and everything stays up to be tried by hand");
        screen.say(
            "  cargo xtask demo --data DIR               on MovieLens files: movies.csv and ratings.csv",
        );
        screen.say("  the README's `A first function`           five minutes to a function of your own");
        return;
    }
    let ca = host.ready.ca.display();
    let tls = &host.ready.gateway_tls;
    screen.say(&format!("  export TIDEGATE_HOST_URL={gateway}"));
    screen.say("  tidegate runs                             every run as a tree of steps");
    screen.say("  tidegate events                           what happens, as it happens");
    screen.say("  tidegate put FILE data/raw/FILE           another file, another model");
    screen.say(&format!(
        "  curl --cacert {ca} {tls}/predict -d '{{\"user_id\":1,\"item_ids\":[1,2,3]}}'"
    ));
    screen.say(&format!("  curl {gateway}/metrics"));
}
