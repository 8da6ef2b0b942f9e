//! Counters and histograms by OpenTelemetry's names (`faas.*`, `messaging.*`), in Prometheus' text format.
//!
//! Names of functions are their only labels that are not fixed: nothing that a client may make up is one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::dispatch::FailureKind;
use crate::sandbox::{Failure, Usage};
use crate::store::Depth;

/// Seconds, from a warm instance's start to a long step.
const SECONDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0,
];
/// Bytes, from one page of WebAssembly's to as much as a function may have.
const BYTES: [f64; 9] = [
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];
/// `messaging.system`.
const SYSTEM: &str = "tidegate";

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Invoked {
    faas_name: String,
    faas_trigger: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failed {
    faas_name: String,
    faas_trigger: &'static str,
    error_type: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queue {
    messaging_system: &'static str,
    messaging_destination_name: String,
    messaging_operation_name: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Waiting {
    messaging_system: &'static str,
    messaging_destination_name: String,
    state: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    faas_name: String,
    faas_trigger: &'static str,
    reason: &'static str,
}

/// An invocation that has ended.
pub struct Invocation<'a> {
    /// The function.
    pub function: &'a str,
    /// What set it off, as OpenTelemetry has it: `pubsub`, `datasource`, `timer` or `http`.
    pub trigger: &'static str,
    /// How long it took, instantiation included.
    pub wall: Duration,
    /// What it took.
    pub usage: Usage,
    /// Why it failed, if it did.
    pub failure: Option<&'a Failure>,
}

type Histograms = Family<Invoked, Histogram>;

/// The platform's metrics.
pub struct Metrics {
    registry: Registry,
    invocations: Family<Invoked, Counter>,
    errors: Family<Failed, Counter>,
    timeouts: Family<Invoked, Counter>,
    coldstarts: Family<Invoked, Counter>,
    durations: Histograms,
    starts: Histograms,
    cpu: Histograms,
    memory: Histograms,
    sent: Family<Queue, Counter>,
    consumed: Family<Queue, Counter>,
    waiting: Family<Waiting, Gauge>,
    refused: Family<Refused, Counter>,
    committed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histograms::new_with_constructor(|| Histogram::new(SECONDS));
        let mut metrics = Self {
            registry: Registry::default(),
            invocations: Family::default(),
            errors: Family::default(),
            timeouts: Family::default(),
            coldstarts: Family::default(),
            durations: seconds(),
            starts: seconds(),
            cpu: seconds(),
            memory: Histograms::new_with_constructor(|| Histogram::new(BYTES)),
            sent: Family::default(),
            consumed: Family::default(),
            waiting: Family::default(),
            refused: Family::default(),
            committed: Counter::default(),
        };
        metrics.register_invocations();
        metrics.register_messages();
        metrics
    }
}

impl Metrics {
    fn register_invocations(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "faas_invocations",
            "Invocations that succeeded",
            self.invocations.clone(),
        );
        let help = "Invocations that failed, by the way they failed in";
        registry.register("faas_errors", help, self.errors.clone());
        let help = "Invocations that reached their wall time";
        registry.register("faas_timeouts", help, self.timeouts.clone());
        let help = "Invocations by a fresh instance";
        registry.register("faas_coldstarts", help, self.coldstarts.clone());
        let help = "Wall time of an invocation, instantiation included";
        registry.register_with_unit(
            "faas_invoke_duration",
            help,
            Unit::Seconds,
            self.durations.clone(),
        );
        let help = "Time until a fresh instance was ready for its first instruction";
        registry.register_with_unit("faas_init_duration", help, Unit::Seconds, self.starts.clone());
        let help = "CPU time of an invocation";
        registry.register_with_unit("faas_cpu_usage", help, Unit::Seconds, self.cpu.clone());
        let help = "Peak memory of an invocation";
        registry.register_with_unit("faas_mem_usage", help, Unit::Bytes, self.memory.clone());
    }

    fn register_messages(&mut self) {
        let registry = &mut self.registry;
        let help = "Events put into a queue";
        registry.register("messaging_client_sent_messages", help, self.sent.clone());
        let help = "Events of a queue whose handling was committed";
        registry.register("messaging_client_consumed_messages", help, self.consumed.clone());
        let help = "Events in the queues of a function's versions, ready (or handled) and delayed";
        registry.register("tidegate_queue_events", help, self.waiting.clone());
        let help = "Events and requests that were refused, as the function had its backlog or its rate";
        registry.register("tidegate_triggers_refused", help, self.refused.clone());
        registry.register(
            "tidegate_effects_committed",
            "Effects committed",
            self.committed.clone(),
        );
    }

    /// Counts an invocation.
    pub fn invoked(&self, invocation: &Invocation<'_>) {
        let by = Invoked {
            faas_name: invocation.function.to_owned(),
            faas_trigger: invocation.trigger,
        };
        let usage = &invocation.usage;
        self.durations
            .get_or_create(&by)
            .observe(invocation.wall.as_secs_f64());
        self.cpu.get_or_create(&by).observe(usage.cpu_ms / 1000.0);
        self.memory.get_or_create(&by).observe(usage.peak_memory as f64);
        if !usage.warm {
            self.coldstarts.get_or_create(&by).inc();
            self.starts.get_or_create(&by).observe(usage.start_ms / 1000.0);
        }
        match invocation.failure {
            None => self.invocations.get_or_create(&by).inc(),
            Some(failure) => self.failed(by, failure),
        };
    }

    fn failed(&self, by: Invoked, failure: &Failure) -> u64 {
        if failure.is_timeout() {
            self.timeouts.get_or_create(&by).inc();
        }
        let failed = Failed {
            faas_name: by.faas_name,
            faas_trigger: by.faas_trigger,
            error_type: FailureKind::from(failure).name(),
        };
        self.errors.get_or_create(&failed).inc()
    }

    /// Counts what was put into a queue: a function's, whatever the version, or a kind of job's.
    pub fn sent(&self, queue: &str) {
        let of_all_versions = queue.split('@').next().unwrap_or(queue);
        let by = queue_of(of_all_versions, "send");
        self.sent.get_or_create(&by).inc();
    }

    /// Counts events of a queue that were handled.
    pub fn consumed(&self, queue: &str, count: usize) {
        let by = queue_of(queue, "process");
        self.consumed.get_or_create(&by).inc_by(count as u64);
    }

    /// Counts an event or a request that was refused, by its trigger; the reason is `backlog` or `rate`.
    pub fn refused(&self, function: &str, trigger: &'static str, reason: &'static str) {
        let by = Refused {
            faas_name: function.to_owned(),
            faas_trigger: trigger,
            reason,
        };
        self.refused.get_or_create(&by).inc();
    }

    /// Counts committed effects.
    pub fn effects(&self, count: usize) {
        self.committed.inc_by(count as u64);
    }

    /// Everything in Prometheus' (OpenMetrics) text format, without the end mark, so that more can follow; with how full
    /// the queues of functions are.
    pub fn render(&self, queues: BTreeMap<String, Depth>) -> String {
        self.waiting.clear();
        for (function, depth) in queues {
            for (state, count) in [("ready", depth.ready), ("delayed", depth.delayed)] {
                let by = Waiting {
                    messaging_system: SYSTEM,
                    messaging_destination_name: function.clone(),
                    state,
                };
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.waiting.get_or_create(&by).set(count);
            }
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            let _infallible = write!(text, "# {error}");
        }
        text.trim_end_matches("# EOF\n").to_owned()
    }
}

fn queue_of(queue: &str, operation: &'static str) -> Queue {
    Queue {
        messaging_system: SYSTEM,
        messaging_destination_name: queue.to_owned(),
        messaging_operation_name: operation,
    }
}
