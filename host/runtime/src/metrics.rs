//! Counters and histograms, in Prometheus' text format.

use std::fmt::Write as _;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Seconds, from a warm instance's start to a long step.
const BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0,
];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Invocation {
    function: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByFunction {
    function: String,
}

/// The platform's metrics.
pub struct Metrics {
    registry: Registry,
    invocations: Family<Invocation, Counter>,
    durations: Family<ByFunction, Histogram>,
    committed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        let invocations = Family::default();
        registry.register("invocations", "Invocations by outcome", invocations.clone());
        let durations: Family<ByFunction, Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register_with_unit(
            "invocation_duration",
            "Wall time of an invocation, instantiation included",
            Unit::Seconds,
            durations.clone(),
        );
        let committed = Counter::default();
        registry.register("effects_committed", "Effects committed", committed.clone());
        Self {
            registry,
            invocations,
            durations,
            committed,
        }
    }
}

impl Metrics {
    /// Counts an invocation; `outcome` is `done`, `retry`, `dead` or `conflict`.
    pub fn invocation(&self, function: &str, outcome: &'static str, seconds: f64) {
        let function = function.to_owned();
        self.durations
            .get_or_create(&ByFunction {
                function: function.clone(),
            })
            .observe(seconds);
        self.invocations
            .get_or_create(&Invocation { function, outcome })
            .inc();
    }

    /// Counts committed effects.
    pub fn effects(&self, count: usize) {
        self.committed.inc_by(count as u64);
    }

    /// Everything in Prometheus' (OpenMetrics) text format, without the end mark, so that more can follow.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            let _infallible = write!(text, "# {error}");
        }
        text.trim_end_matches("# EOF\n").to_owned()
    }
}
