//! `POST /worker/v1/usage`, and what workers told there, for `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::Faces;
use crate::api::error::Json;
use crate::api::oip::metrics::escaped;

/// A worker that told nothing for so long has gone, or tells another host.
const GONE: Duration = Duration::from_secs(30);
/// Workers that are told of.
const MOST: usize = 1024;

/// What a worker uses.
#[derive(Debug, Deserialize)]
pub struct Usage {
    worker: String,
    cpu_seconds: f64,
    memory_bytes: u64,
    #[serde(default)]
    gpus: Vec<Gpu>,
}

/// An NVIDIA device of its machine.
#[derive(Debug, Deserialize)]
struct Gpu {
    index: String,
    uuid: String,
    memory_bytes: u64,
    memory_used_bytes: u64,
    utilization: f64,
}

/// What all of them told last.
#[derive(Debug, Default)]
pub struct Usages(Mutex<BTreeMap<String, (Instant, Usage)>>);

/// The route.
pub(super) async fn take(State(faces): State<Faces>, Json(usage): Json<Usage>) -> Json<Value> {
    faces.usages.take(usage);
    Json(json!({}))
}

/// What is told of each worker: its name, type, unit, what it says, and the figure.
type OfWorker = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    fn(&Usage) -> f64,
);

const WORKERS: [OfWorker; 2] = [
    (
        "tidegate_worker_cpu_seconds",
        "counter",
        "seconds",
        "CPU time of a worker",
        |usage| usage.cpu_seconds,
    ),
    (
        "tidegate_worker_memory_bytes",
        "gauge",
        "bytes",
        "Memory of a worker",
        |usage| usage.memory_bytes as f64,
    ),
];

/// What is told of each GPU: this project's name and Triton's, what it says, and the figure.
type OfGpu = (&'static str, &'static str, &'static str, fn(&Gpu) -> f64);

const GPUS: [OfGpu; 3] = [
    (
        "tidegate_gpu_utilization_ratio",
        "nv_gpu_utilization",
        "The part of the last moments in which a GPU computed",
        |gpu| gpu.utilization,
    ),
    (
        "tidegate_gpu_memory_bytes",
        "nv_gpu_memory_total_bytes",
        "Memory of a GPU",
        |gpu| gpu.memory_bytes as f64,
    ),
    (
        "tidegate_gpu_memory_used_bytes",
        "nv_gpu_memory_used_bytes",
        "Memory of a GPU that is taken, by whomever",
        |gpu| gpu.memory_used_bytes as f64,
    ),
];

impl Usages {
    fn told(&self) -> MutexGuard<'_, BTreeMap<String, (Instant, Usage)>> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, (at, _)| at.elapsed() < GONE);
        told
    }

    fn take(&self, usage: Usage) {
        let mut told = self.told();
        if told.len() < MOST || told.contains_key(&usage.worker) {
            told.insert(usage.worker.clone(), (Instant::now(), usage));
        }
    }

    /// The families of all workers; `triton` adds those of Triton's names.
    pub fn render(&self, triton: bool) -> String {
        let told = self.told();
        let mut text = String::new();
        for (name, kind, unit, help, figure) in WORKERS {
            let suffix = if kind == "counter" { "_total" } else { "" };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n# UNIT {name} {unit}"
            );
            for (worker, (_, usage)) in told.iter() {
                let (worker, value) = (escaped(worker), figure(usage));
                let _ = writeln!(text, "{name}{suffix}{{worker=\"{worker}\"}} {value}");
            }
        }
        for (own, tritons, help, figure) in GPUS {
            for name in std::iter::once(own).chain(triton.then_some(tritons)) {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
                for (worker, (_, usage)) in told.iter() {
                    for gpu in &usage.gpus {
                        let (worker, index, uuid) =
                            (escaped(worker), escaped(&gpu.index), escaped(&gpu.uuid));
                        let value = figure(gpu);
                        let _ = writeln!(
                            text,
                            "{name}{{worker=\"{worker}\",gpu=\"{index}\",gpu_uuid=\"{uuid}\"}} {value}"
                        );
                    }
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_and_its_gpus_are_told_of_until_they_are_silent() {
        let usages = Usages::default();
        let usage = json!({
            "worker": "w\"1", "cpu_seconds": 1.5, "memory_bytes": 7,
            "gpus": [{ "index": "0", "uuid": "GPU-1", "memory_bytes": 9, "memory_used_bytes": 4, "utilization": 0.25 }],
        });
        usages.take(serde_json::from_value(usage).unwrap());
        let text = usages.render(true);
        for line in [
            "tidegate_worker_cpu_seconds_total{worker=\"w\\\"1\"} 1.5\n",
            "tidegate_worker_memory_bytes{worker=\"w\\\"1\"} 7\n",
            "tidegate_gpu_utilization_ratio{worker=\"w\\\"1\",gpu=\"0\",gpu_uuid=\"GPU-1\"} 0.25\n",
            "nv_gpu_memory_used_bytes{worker=\"w\\\"1\",gpu=\"0\",gpu_uuid=\"GPU-1\"} 4\n",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
        assert!(!usages.render(false).contains("nv_"));
        usages.0.lock().unwrap().values_mut().for_each(|told| {
            told.0 = Instant::now().checked_sub(GONE).unwrap();
        });
        assert!(!usages.render(false).contains("worker=\""));
    }
}
