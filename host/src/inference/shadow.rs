//! Shadows: versions that are asked what others answer, and whose answers nobody gets.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::WorkerPool;
use super::open_inference::{ModelInferRequest, ModelInferResponse};
use super::resolve::Resolved;
use super::scores::{difference, scores};

/// Copies that are under way at one time; of more, none are made.
pub(super) const MOST: usize = 64;
/// Seconds.
const LATENCY: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 5.0];
/// Mean differences of scores.
const DIFFERENCE: [f64; 8] = [0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Version {
    model: String,
    version: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    model: String,
    version: String,
    outcome: &'static str,
}

/// What became of the requests that shadows were asked.
#[derive(Debug)]
pub struct ShadowMetrics {
    requests: Family<Asked, Counter>,
    duration: Family<Version, Histogram>,
    difference: Family<Version, Histogram>,
}

impl Default for ShadowMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(LATENCY)),
            difference: Family::new_with_constructor(|| Histogram::new(DIFFERENCE)),
        }
    }
}

impl ShadowMetrics {
    /// Has a registry tell of them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests copied to shadows, by outcome";
        registry.register("shadow_requests", help, self.requests.clone());
        let help = "Time until a shadow answered, loading of the model not included";
        registry.register_with_unit("shadow_duration", help, Unit::Seconds, self.duration.clone());
        let help = "Mean difference of a shadow's scores from those that were answered";
        registry.register("shadow_difference", help, self.difference.clone());
    }

    fn count(&self, shadow: &Resolved, outcome: &'static str) {
        let (model, version) = (shadow.name.clone(), shadow.version.clone());
        let asked = Asked {
            model,
            version,
            outcome,
        };
        self.requests.get_or_create(&asked).inc();
    }

    fn answered(&self, shadow: &Resolved, seconds: f64, difference: Option<f64>) {
        self.count(shadow, "done");
        let (model, version) = (shadow.name.clone(), shadow.version.clone());
        let of = Version { model, version };
        self.duration.get_or_create(&of).observe(seconds);
        if let Some(difference) = difference {
            self.difference.get_or_create(&of).observe(difference);
        }
    }
}

impl WorkerPool {
    /// Asks a shadow what was answered, in the background: nobody waits for it, and there are no more than so many.
    pub(super) fn copy_to(
        &self,
        shadow: &Arc<Resolved>,
        request: ModelInferRequest,
        answer: &ModelInferResponse,
    ) {
        let place = self.shadows.clone().try_acquire_owned().ok();
        let Some((pool, place)) = self.me.upgrade().zip(place) else {
            return self.metrics.shadows.count(shadow, "dropped");
        };
        let (shadow, answered) = (shadow.clone(), scores(answer));
        tokio::spawn(async move {
            let _place = place;
            let asking = pool.ask_version(&shadow, &request);
            match pool.deadline(None).within(&shadow.name, asking).await {
                Ok((answer, took)) => {
                    let difference = difference(&answered, &scores(&answer));
                    pool.metrics
                        .shadows
                        .answered(&shadow, took.as_secs_f64(), difference);
                }
                Err(failure) => pool.metrics.shadows.count(&shadow, failure.outcome()),
            }
        });
    }
}
