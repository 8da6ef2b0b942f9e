//! `GET /rank/health` and `GET /rank/metrics`: a prediction of one item for a newcomer, and how it went.

use std::fmt::Write;
use std::time::Instant;

use feed_ranking::features::Context;
use feed_ranking::rank::Ask;
use spin_sdk::http::StatusCode;
use tidegate_sdk::Error;

use crate::predict::{Known, score};
use crate::respond::Reply;

/// How a probe went.
struct Probe {
    seconds: f64,
    model_version: Result<String, Error>,
    features: bool,
}

impl Probe {
    async fn run() -> Self {
        let started = Instant::now();
        // Nobody has the greatest id, so that this is the way of an unknown user and an unknown item.
        let id = i64::MAX as u64;
        let ask = Ask {
            user_id: id,
            item_ids: vec![id],
            time: None,
            context: Context::default(),
        };
        let (features, model_version) = match Known::fetch(&ask).await {
            Ok(known) => {
                let version = score(&ask, &known).await.map(|response| response.model_version);
                (known.features_written(), version)
            }
            Err(error) => (false, Err(error)),
        };
        Self {
            seconds: started.elapsed().as_secs_f64(),
            model_version,
            features,
        }
    }
}

pub(crate) async fn health() -> Reply {
    match Probe::run().await.model_version {
        Ok(version) => {
            let body = format!(
                r#"{{"status":"ok","model_version":"{}"}}"#,
                version.escape_default()
            );
            Reply::json(StatusCode::OK, body.into_bytes())
        }
        Err(error) => error.into(),
    }
}

pub(crate) async fn metrics() -> Reply {
    let probe = Probe::run().await;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, labels: &str, value: f64| {
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}"
        );
    };
    let ready = f64::from(u8::from(probe.model_version.is_ok()));
    gauge(
        "rank_ready",
        "1 if a prediction made for this scrape was answered.",
        "",
        ready,
    );
    gauge(
        "rank_probe_seconds",
        "How long that prediction of one item took.",
        "",
        probe.seconds,
    );
    let features = f64::from(u8::from(probe.features));
    gauge(
        "rank_features_ready",
        "1 if online features have been written.",
        "",
        features,
    );
    if let Ok(version) = &probe.model_version {
        let labels = format!("{{version=\"{}\"}}", version.escape_default());
        gauge(
            "rank_model_info",
            "The model version that answered.",
            &labels,
            1.0,
        );
    }
    text.push_str("# Requests and latencies of all instances are in the host's /metrics.\n");
    Reply::metrics(text)
}
