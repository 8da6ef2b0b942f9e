//! `/metrics`: what the platform and the host count, in Prometheus' (OpenMetrics) text format.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The media type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds.
const BUCKETS: [f64; 13] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    face: &'static str,
    status: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Face {
    face: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Inferred {
    outcome: &'static str,
}

/// What the host counts itself.
pub struct HostMetrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Face, Histogram>,
    inferences: Family<Inferred, Counter>,
    inference_duration: Histogram,
    /// Records written as objects.
    pub recorded: Counter,
    /// Records dropped, because their queue was full or the store did not take them.
    pub records_dropped: Counter,
    /// Times that the worker process was started.
    pub worker_starts: Counter,
    /// Whether a worker answers inference requests.
    pub worker_ready: Gauge<u64, AtomicU64>,
}

impl Default for HostMetrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tidegate"),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            inferences: Family::default(),
            inference_duration: Histogram::new(BUCKETS),
            recorded: Counter::default(),
            records_dropped: Counter::default(),
            worker_starts: Counter::default(),
            worker_ready: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl HostMetrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_requests",
            "Requests by face and status",
            self.requests.clone(),
        );
        let (name, help) = ("http_request_duration", "Time until the answer's head, by face");
        registry.register_with_unit(name, help, Unit::Seconds, self.durations.clone());
        registry.register(
            "inferences",
            "Inference requests by outcome",
            self.inferences.clone(),
        );
        let (name, help) = (
            "inference_duration",
            "Time of an inference, loading of the model included",
        );
        registry.register_with_unit(name, help, Unit::Seconds, self.inference_duration.clone());
        registry.register(
            "records_written",
            "Recorded requests written",
            self.recorded.clone(),
        );
        registry.register(
            "records_dropped",
            "Recorded requests dropped",
            self.records_dropped.clone(),
        );
        registry.register(
            "worker_starts",
            "Starts of the worker process",
            self.worker_starts.clone(),
        );
        registry.register(
            "worker_ready",
            "Whether a worker answers inference requests",
            self.worker_ready.clone(),
        );
    }

    /// Counts an answered request.
    pub fn answered(&self, face: &'static str, status: u16, seconds: f64) {
        self.requests.get_or_create(&Answered { face, status }).inc();
        self.durations.get_or_create(&Face { face }).observe(seconds);
    }

    /// Counts an inference.
    pub fn inferred(&self, outcome: &'static str, seconds: f64) {
        self.inferences.get_or_create(&Inferred { outcome }).inc();
        self.inference_duration.observe(seconds);
    }

    /// Everything, after what the platform counts.
    pub fn render(&self, platform: &str) -> String {
        let mut text = platform.to_owned();
        if let Err(error) = encode(&mut text, &self.registry) {
            let _infallible = write!(text, "# {error}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_one_end_and_every_metric() {
        let metrics = HostMetrics::default();
        metrics.answered("function", 200, 0.002);
        metrics.inferred("done", 0.001);
        let text = metrics.render("# TYPE tidegate_invocations counter\n");
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with("# EOF\n"));
        for line in [
            "tidegate_http_requests_total{face=\"function\",status=\"200\"} 1",
            "tidegate_http_request_duration_seconds_bucket{le=\"0.0025\",face=\"function\"} 1",
            "tidegate_inferences_total{outcome=\"done\"} 1",
            "tidegate_worker_ready 0",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}
