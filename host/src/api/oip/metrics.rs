//! What requests of each model took, for `/metrics`: under this project's names, and under Triton's where that is asked for.

use std::fmt::Write as _;

use crate::inference::open_inference::{InferStatistics, ModelStatistics, StatisticDuration};

/// One family: its name, its unit, what it tells, and one or more samples of each model.
struct Family {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    samples: fn(&ModelStatistics) -> Vec<(String, f64)>,
}

const FAMILIES: [Family; 6] = [
    Family {
        name: "tidegate_model_requests",
        unit: "",
        help: "Requests that a model answered, by outcome",
        samples: |model| {
            let requests = |outcome: &str, told| (format!("outcome=\"{outcome}\""), count(told));
            let stats = stats(model);
            vec![requests("done", stats.success), requests("failed", stats.fail)]
        },
    },
    Family {
        name: "tidegate_model_request_seconds",
        unit: "seconds",
        help: "Time of the requests that were answered, in the worker",
        samples: |model| alone(seconds(stats(model).success)),
    },
    Family {
        name: "tidegate_model_queue_seconds",
        unit: "seconds",
        help: "Time that requests waited for their turn",
        samples: |model| alone(seconds(stats(model).queue)),
    },
    Family {
        name: "tidegate_model_compute_seconds",
        unit: "seconds",
        help: "Time of the runs of a model",
        samples: |model| {
            alone(
                model
                    .batch_stats
                    .iter()
                    .map(|batch| seconds(batch.compute_infer))
                    .sum(),
            )
        },
    },
    Family {
        name: "tidegate_model_rows",
        unit: "",
        help: "Rows that a model ran on",
        samples: |model| alone(model.inference_count as f64),
    },
    Family {
        name: "tidegate_model_batches",
        unit: "",
        help: "Runs of a model, by how many rows they had",
        samples: |model| {
            let batches = model.batch_stats.iter();
            let size = |size: u64| format!("rows=\"{size}\"");
            batches
                .map(|batch| (size(batch.batch_size), count(batch.compute_infer)))
                .collect()
        },
    },
];

/// A name, what it stands for, and its value.
type Figure = (&'static str, &'static str, fn(&ModelStatistics) -> f64);

/// Triton's names, in microseconds, and what they are of.
const TRITONS: [Figure; 7] = [
    (
        "nv_inference_request_success",
        "Number of successful inference requests",
        |model| count(stats(model).success),
    ),
    (
        "nv_inference_request_failure",
        "Number of failed inference requests",
        |model| count(stats(model).fail),
    ),
    ("nv_inference_count", "Number of inferences performed", |model| {
        model.inference_count as f64
    }),
    (
        "nv_inference_exec_count",
        "Number of model executions performed",
        |model| model.execution_count as f64,
    ),
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds",
        |model| micros(stats(model).success),
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds",
        |model| micros(stats(model).queue),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds",
        |model| micros(stats(model).compute_infer),
    ),
];

/// The families of all models of each worker; `triton` adds those of Triton's names.
pub fn render(workers: &[(String, Vec<ModelStatistics>)], triton: bool) -> String {
    let models = || {
        workers
            .iter()
            .flat_map(|(worker, models)| models.iter().map(move |model| (worker, model)))
    };
    let mut text = String::new();
    for family in &FAMILIES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {} {}", family.name, family.help);
        let _ = writeln!(text, "# TYPE {} counter", family.name);
        if !family.unit.is_empty() {
            let _ = writeln!(text, "# UNIT {} {}", family.name, family.unit);
        }
        let name = format!("{}_total", family.name);
        for (worker, model) in models() {
            for (label, value) in (family.samples)(model) {
                sample(&mut text, &name, (worker.as_str(), model), &label, value);
            }
        }
    }
    // Counters that do not end in `_total` have no type that OpenMetrics knows.
    for (name, help, value) in TRITONS.iter().filter(|_| triton) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} unknown");
        for (worker, model) in models() {
            sample(&mut text, name, (worker.as_str(), model), "", value(model));
        }
    }
    text
}

fn sample(text: &mut String, name: &str, of: (&str, &ModelStatistics), label: &str, value: f64) {
    let comma = if label.is_empty() { "" } else { "," };
    let (worker, model) = (escaped(of.0), escaped(&of.1.name));
    let version = escaped(&of.1.version);
    let _ = writeln!(
        text,
        "{name}{{model=\"{model}\",version=\"{version}\",worker=\"{worker}\"{comma}{label}}} {value}"
    );
}

/// A text as the value of a label.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn stats(model: &ModelStatistics) -> InferStatistics {
    model.inference_stats.unwrap_or_default()
}

fn alone(value: f64) -> Vec<(String, f64)> {
    vec![(String::new(), value)]
}

fn count(told: Option<StatisticDuration>) -> f64 {
    told.map_or(0.0, |told| told.count as f64)
}

fn seconds(told: Option<StatisticDuration>) -> f64 {
    told.map_or(0.0, |told| told.ns as f64 / 1e9)
}

fn micros(told: Option<StatisticDuration>) -> f64 {
    told.map_or(0.0, |told| (told.ns / 1000) as f64)
}
