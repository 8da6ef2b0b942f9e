//! A trial: a job that is a part of its rung, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_ml::registry::Artifact;
use tidegate_sdk::jobs::Job;
use tidegate_sdk::prelude::*;

use crate::TABLE;
use crate::request::Search;
use crate::rung;

/// Which trial of which search: the data of `TrialDue`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The search.
    pub(crate) search: String,
    /// The rung, from 0.
    pub(crate) rung: u32,
    /// The trial, from 0; one that goes on to the next rung keeps its number.
    pub(crate) trial: usize,
}

/// The end of a job, whichever it is.
#[derive(Debug, Deserialize)]
pub(crate) struct JobEnded {
    job: String,
    #[serde(default)]
    outputs: Outputs,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Outputs {
    model: Option<Artifact>,
    #[serde(default)]
    metrics: Value,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    #[serde(flatten)]
    pub(crate) place: Place,
    /// The job that ran it.
    pub(crate) job: String,
    /// What it had of its own.
    pub(crate) parameters: Map<String, Value>,
    /// What it is compared by; none of one that failed.
    pub(crate) score: Option<f64>,
    /// Why it has none.
    pub(crate) reason: Option<String>,
    /// All that was measured, as `validation.auc`.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// What its model was made with, defaults included.
    pub(crate) used: Map<String, Value>,
    /// The model.
    pub(crate) model: Option<Artifact>,
}

/// Submits the job of a trial, as a part of its rung.
pub(crate) async fn submit(place: Place) -> Result<(), Failure> {
    let search = rung::search(&place.search).await?;
    let (id, rung, trial) = (&place.search, place.rung, place.trial);
    let mut job = Job::new(&search.kind, "TrialEnded").writes(search.writes(id, rung, trial));
    for place in search.reads() {
        job = job.reads(place);
    }
    let job = job.part().submit(&search.config(id, rung, trial))?;
    state::put_if_absent(TABLE, &job_key(&job), &place)
}

/// Keeps what came of a trial; the end of a job that is none is not ours.
pub(crate) async fn record(ended: JobEnded) -> Result<(), Failure> {
    let Some(place) = state::get::<Place>(TABLE, &job_key(&ended.job)).await? else {
        return Ok(());
    };
    let search = rung::search(&place.value.search).await?;
    let trial = Trial::of(ended, place.value, &search);
    match &trial.reason {
        None => log::info!("trial {} scored {:?}", trial.place.trial, trial.score),
        Some(reason) => log::warn!("trial {} scored nothing: {reason}", trial.place.trial),
    }
    state::delete(
        TABLE,
        &job_key(&trial.job),
        state::Condition::Version(place.version),
    )?;
    state::put_if_absent(TABLE, &trial.place.key(), &trial)
}

fn job_key(job: &str) -> String {
    format!("jobs/{job}")
}

impl Place {
    fn key(&self) -> String {
        format!("{}{:06}", results_prefix(&self.search, self.rung), self.trial)
    }
}

/// Where the trials of a rung lie.
pub(crate) fn results_prefix(search: &str, rung: u32) -> String {
    format!("{search}/trials/{rung:02}/")
}

impl Trial {
    fn of(ended: JobEnded, place: Place, search: &Search) -> Self {
        let mut metrics = BTreeMap::new();
        flatten(&ended.outputs.metrics, "", &mut metrics);
        let score = metrics.get(&search.metric).copied();
        let nothing = || format!("its outputs have no metric `{}`", search.metric);
        Self {
            parameters: search.parameters(place.trial),
            job: ended.job,
            score,
            reason: ended.reason.or_else(|| score.is_none().then(nothing)),
            metrics,
            used: ended.outputs.parameters,
            model: ended.outputs.model,
            place,
        }
    }
}

/// Numbers in objects, by the path to them.
fn flatten(value: &Value, path: &str, into: &mut BTreeMap<String, f64>) {
    if let Some(number) = value.as_f64() {
        into.insert(path.to_owned(), number);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        flatten(value, &path, into);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trial(end: Value) -> Trial {
        let search = json!({
            "model": "m", "kind": "train.mlp", "config": {}, "space": {"x": {"choice": [3]}}, "trials": 2,
        });
        let place = Place {
            search: "S".into(),
            rung: 1,
            trial: 0,
        };
        Trial::of(
            serde_json::from_value(end).unwrap(),
            place,
            &serde_json::from_value(search).unwrap(),
        )
    }

    #[test]
    fn a_trial_scores_by_its_metric_or_says_why_it_does_not() {
        let ended = json!({"job": "j", "outputs": {"metrics": {"validation": {"auc": 0.7}, "seconds": 3}}});
        let scored = trial(ended);
        assert_eq!((scored.score, scored.reason.as_deref()), (Some(0.7), None));
        assert_eq!(scored.metrics["seconds"], 3.0);
        assert_eq!(scored.parameters["x"], 3);
        let failed = trial(json!({"job": "j", "reason": "cancelled", "config": {}}));
        assert_eq!(
            (failed.score, failed.reason.as_deref()),
            (None, Some("cancelled"))
        );
        let unmeasured = trial(json!({"job": "j", "outputs": {"metrics": {}}}));
        assert!(unmeasured.reason.unwrap().contains("no metric `validation.auc`"));
    }
}
