//! `/metrics`, read as Prometheus reads it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use tidegate_harness::{Host, until};
use tidegate_it::observers::families;
use tidegate_it::{Scene, settled_run};

const LIMIT: Duration = Duration::from_secs(60);

async fn scraped(host: &Host) -> Result<Map<String, Value>> {
    families(&host.api.get_text("/metrics").await?).await
}

/// The value of a family's sample with all of these labels.
fn value(families: &Map<String, Value>, name: &str, sample: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = families.get(name)?["samples"].as_array()?;
    let found = samples
        .iter()
        .find(|found| found[0] == sample && labels.iter().all(|(label, wanted)| found[1][*label] == *wanted));
    found?[2].as_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_the_metrics_under_the_names_of_opentelemetry() -> Result<()> {
    let scene = Scene::new()?;
    let host = scene.host().await?;
    host.bucket("data")
        .put("raw/odd.csv", b"no,such,columns\n1,2,3\n".to_vec())
        .await?;
    settled_run(&host, "raw/odd.csv").await?;
    let by = [
        ("faas_name", "ingest"),
        ("faas_trigger", "datasource"),
        ("error_type", "reject"),
    ];
    let failed = until("an invocation that fails", LIMIT, async || {
        let families = scraped(&host).await?;
        let errors = value(&families, "faas_errors", "faas_errors_total", &by);
        Ok((errors == Some(1.0)).then_some(families))
    })
    .await?;
    let wanted = json!({ "users": 10, "items": 10, "interactions": 10, "days": 1, "seed": 1 });
    host.api.event("GenerateRequested", wanted).await?;
    let families = until("an invocation that succeeds", LIMIT, async || {
        let families = scraped(&host).await?;
        let by = [("messaging_destination_name", "generate")];
        let name = "messaging_client_consumed_messages";
        let consumed = value(&families, name, &format!("{name}_total"), &by);
        Ok((consumed == Some(1.0)).then_some(families))
    })
    .await?;
    for (name, kind, unit) in [
        ("faas_invocations", "counter", ""),
        ("faas_errors", "counter", ""),
        ("faas_coldstarts", "counter", ""),
        ("faas_invoke_duration_seconds", "histogram", "seconds"),
        ("faas_init_duration_seconds", "histogram", "seconds"),
        ("faas_cpu_usage_seconds", "histogram", "seconds"),
        ("faas_mem_usage_bytes", "histogram", "bytes"),
        ("messaging_client_sent_messages", "counter", ""),
        ("messaging_client_consumed_messages", "counter", ""),
        ("http_server_request_duration_seconds", "histogram", "seconds"),
    ] {
        let family = families
            .get(name)
            .with_context(|| format!("no `{name}` in {families:?}"))?;
        assert_eq!(
            (&family["type"], &family["unit"]),
            (&kind.into(), &unit.into()),
            "{name}"
        );
        assert_ne!(family["help"], "", "{name}");
    }
    let by = [("faas_name", "ingest")];
    assert_eq!(
        value(&failed, "faas_coldstarts", "faas_coldstarts_total", &by),
        Some(1.0)
    );
    let name = "faas_invoke_duration_seconds";
    assert_eq!(value(&failed, name, &format!("{name}_count"), &by), Some(1.0));
    let by = [
        ("messaging_destination_name", "ingest"),
        ("messaging_operation_name", "send"),
    ];
    let name = "messaging_client_sent_messages";
    assert_eq!(value(&failed, name, &format!("{name}_total"), &by), Some(1.0));
    let by = [("http_request_method", "PUT"), ("tidegate_face", "s3")];
    let name = "http_server_request_duration_seconds";
    assert_eq!(value(&failed, name, &format!("{name}_count"), &by), Some(1.0));
    let by = [("faas_name", "generate"), ("faas_trigger", "pubsub")];
    let succeeded = value(&families, "faas_invocations", "faas_invocations_total", &by);
    assert_eq!(succeeded, Some(1.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_that_are_counted_and_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    let config = scene.file(
        "host.toml",
        "[otlp]\nendpoint = \"http://127.0.0.1:9\"\ninterval = \"10ms\"\n",
    )?;
    let mut options = scene.options(scene.small_app()?);
    let config = ("TIDEGATE_CONFIG".to_owned(), config.display().to_string());
    options.env.push(config);
    let host = Host::start(options).await?;
    host.bucket("data")
        .put("raw/odd.csv", b"no,such,columns\n1,2,3\n".to_vec())
        .await?;
    settled_run(&host, "raw/odd.csv").await?;
    until("spans that were dropped", LIMIT, async || {
        let families = scraped(&host).await?;
        let dropped = value(
            &families,
            "tidegate_spans_dropped",
            "tidegate_spans_dropped_total",
            &[],
        );
        Ok(dropped.filter(|dropped| *dropped > 0.0))
    })
    .await?;
    Ok(())
}
