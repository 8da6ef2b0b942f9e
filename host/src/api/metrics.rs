//! `/metrics`: what the platform and the host count, in Prometheus' (OpenMetrics) text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidegate_cloud::Calls;
use tidegate_runtime::jobs::{ANY_DEVICE, Demand};
use tidegate_trace::Spans;

use crate::inference::ShadowMetrics;

/// The media type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds.
const BUCKETS: [f64; 13] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    http_request_method: &'static str,
    http_response_status_code: u16,
    tidegate_face: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Submitted {
    device: String,
    state: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Wanted {
    part: &'static str,
    device: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Inferred {
    outcome: &'static str,
}

/// What the host counts itself.
pub struct HostMetrics {
    registry: Registry,
    requests: Family<Answered, Histogram>,
    inferences: Family<Inferred, Counter>,
    inference_duration: Histogram,
    /// Records written as objects.
    pub recorded: Counter,
    /// Records dropped, because their queue was full or the store did not take them.
    pub records_dropped: Counter,
    /// Times that the worker process was started.
    pub worker_starts: Counter,
    /// Whether a worker answers inference requests.
    worker_ready: Gauge<u64, AtomicU64>,
    workers: Gauge<u64, AtomicU64>,
    jobs: Family<Submitted, Gauge<u64, AtomicU64>>,
    inferences_active: Gauge<u64, AtomicU64>,
    workers_wanted: Family<Wanted, Gauge<u64, AtomicU64>>,
    /// What became of the requests that shadows were asked.
    pub shadows: ShadowMetrics,
    spans_sent: Counter,
    spans_dropped: Counter,
}

impl Default for HostMetrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            inferences: Family::default(),
            inference_duration: Histogram::new(BUCKETS),
            recorded: Counter::default(),
            records_dropped: Counter::default(),
            worker_starts: Counter::default(),
            worker_ready: Gauge::default(),
            workers: Gauge::default(),
            jobs: Family::default(),
            inferences_active: Gauge::default(),
            workers_wanted: Family::default(),
            shadows: ShadowMetrics::default(),
            spans_sent: Counter::default(),
            spans_dropped: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl HostMetrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let (name, help) = ("http_server_request_duration", "Time until the answer's head");
        registry.register_with_unit(name, help, Unit::Seconds, self.requests.clone());
        let registry = registry.sub_registry_with_prefix("tidegate");
        registry.register(
            "spans_sent",
            "Spans that a collector took",
            self.spans_sent.clone(),
        );
        registry.register(
            "spans_dropped",
            "Spans that no collector will see",
            self.spans_dropped.clone(),
        );
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
        registry.register(
            "workers",
            "Workers that answer inference requests",
            self.workers.clone(),
        );
        registry.register(
            "jobs",
            "Jobs that wait or run, by the kind of device that they ask for",
            self.jobs.clone(),
        );
        registry.register(
            "inferences_active",
            "Inference requests that are under way, those that wait for a worker included",
            self.inferences_active.clone(),
        );
        registry.register(
            "workers_wanted",
            "Workers that there is work for: what pools are scaled by",
            self.workers_wanted.clone(),
        );
        self.shadows.register(registry);
    }

    /// Tells as well how often the services of a cloud are called.
    pub fn with_calls(mut self, calls: &Calls) -> Self {
        let registry = self.registry.sub_registry_with_prefix("tidegate");
        registry.register(
            "cloud_calls",
            "Calls of the cloud's services, every try counted",
            calls.counters(),
        );
        self
    }

    /// Counts an answered request.
    pub fn answered(&self, face: &'static str, method: &Method, status: StatusCode, seconds: f64) {
        let by = Answered {
            http_request_method: known(method),
            http_response_status_code: status.as_u16(),
            tidegate_face: face,
        };
        self.requests.get_or_create(&by).observe(seconds);
    }

    /// Counts an inference.
    pub fn inferred(&self, outcome: &'static str, seconds: f64) {
        self.inferences.get_or_create(&Inferred { outcome }).inc();
        self.inference_duration.observe(seconds);
    }

    /// Tells how many workers answer inference requests.
    pub fn workers_are(&self, count: u64) {
        self.worker_ready.set(count.min(1));
        self.workers.set(count);
    }

    /// Tells what there is for workers to do by jobs of each kind of device.
    pub fn jobs_are(&self, demands: BTreeMap<String, Demand>) {
        for (device, demand) in demands {
            for (state, count) in [("waiting", demand.waiting), ("running", demand.running)] {
                let device = device.clone();
                self.jobs.get_or_create(&Submitted { device, state }).set(count);
            }
            let part = "jobs";
            let wanted = self.workers_wanted.get_or_create(&Wanted { part, device });
            wanted.set(demand.workers);
        }
    }

    /// Tells how many inference requests are under way, and how many workers they have use for.
    pub fn inferences_are(&self, under_way: u64, workers: u64) {
        self.inferences_active.set(under_way);
        let (part, device) = ("inference", ANY_DEVICE.to_owned());
        let wanted = self.workers_wanted.get_or_create(&Wanted { part, device });
        wanted.set(workers);
    }

    /// Everything, after what the platform counts.
    pub fn render(&self, platform: &str, spans: &Spans) -> String {
        self.spans_sent.inner().store(spans.sent(), Ordering::Relaxed);
        self.spans_dropped
            .inner()
            .store(spans.dropped(), Ordering::Relaxed);
        let mut text = platform.to_owned();
        if let Err(error) = encode(&mut text, &self.registry) {
            let _infallible = write!(text, "# {error}");
        }
        text
    }
}

/// A method that is one of HTTP's own; a client may make up others.
fn known(method: &Method) -> &'static str {
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
    ];
    let found = methods.into_iter().find(|known| method == known);
    found.unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_one_end_and_every_metric() {
        let metrics = HostMetrics::default();
        metrics.answered("function", &Method::POST, StatusCode::OK, 0.002);
        let odd = Method::from_bytes(b"MADEUP").unwrap();
        metrics.answered("s3", &odd, StatusCode::METHOD_NOT_ALLOWED, 0.002);
        metrics.inferred("done", 0.001);
        metrics.workers_are(2);
        let demand = Demand {
            waiting: 3,
            running: 1,
            workers: 2,
        };
        metrics.jobs_are(BTreeMap::from([("cuda".to_owned(), demand)]));
        metrics.inferences_are(5, 1);
        let text = metrics.render("# TYPE faas_invocations counter\n", &Spans::default());
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with("# EOF\n"));
        for line in [
            "http_server_request_duration_seconds_bucket{le=\"0.0025\",http_request_method=\"POST\",\
             http_response_status_code=\"200\",tidegate_face=\"function\"} 1",
            "http_request_method=\"_OTHER\"",
            "tidegate_inferences_total{outcome=\"done\"} 1",
            "tidegate_spans_dropped_total 0",
            "tidegate_worker_ready 1",
            "tidegate_workers 2",
            "tidegate_jobs{device=\"cuda\",state=\"waiting\"} 3",
            "tidegate_inferences_active 5",
            "tidegate_workers_wanted{part=\"jobs\",device=\"cuda\"} 2",
            "tidegate_workers_wanted{part=\"inference\",device=\"any\"} 1",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}
