//! What is searched: the data of `SearchRequested`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidegate_ml::reference::ModelRef;
use tidegate_sdk::Failure;
use tidegate_sdk::search::{Halving, Space};

/// The bucket of trials' models.
pub(crate) const MODELS: &str = "models";
/// Trials of the first rung at most.
const MOST_TRIALS: usize = 1000;

/// A search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// The model's name.
    pub(crate) model: String,
    /// The kind of its trials' jobs, for example `train.mlp`.
    pub(crate) kind: String,
    /// What every trial is told, in the words of the kind; model and output are added.
    pub(crate) config: Map<String, Value>,
    /// What differs from trial to trial. A dot in a name leads into an object.
    pub(crate) space: Space,
    /// Trials of the first rung.
    pub(crate) trials: usize,
    /// Rungs: 1, which is a random search, or more.
    #[serde(default = "one")]
    pub(crate) rungs: u32,
    /// One in so many goes on to the next rung, with so many times the resource.
    #[serde(default = "three")]
    pub(crate) eta: usize,
    /// What trials of higher rungs get more of; without it, there is one rung.
    pub(crate) resource: Option<Resource>,
    /// What trials are compared by, among the metrics of a job's outputs.
    #[serde(default = "validation_auc")]
    pub(crate) metric: String,
    /// Whether less of it is better.
    #[serde(default)]
    pub(crate) minimise: bool,
    /// What the trials' parameters are drawn with.
    #[serde(default = "seed")]
    pub(crate) seed: u64,
}

/// What trials of higher rungs get more of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    /// The word of the configuration, for example `max_epochs`.
    pub(crate) name: String,
    /// How much of it trials of the first rung get.
    pub(crate) least: u64,
}

fn one() -> u32 {
    1
}

fn three() -> usize {
    3
}

fn seed() -> u64 {
    42
}

fn validation_auc() -> String {
    "validation.auc".to_owned()
}

impl Search {
    /// Refuses a search with all that is wrong with it.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let mut mistakes = self.space.mistakes();
        let mut within = |name: &str, found: u64, least: u64, most: u64| {
            if !(least..=most).contains(&found) {
                mistakes.push(format!("`{name}`: found {found}, allowed are {least} to {most}"));
            }
        };
        within("trials", self.trials as u64, 1, MOST_TRIALS as u64);
        within("rungs", self.rungs.into(), 1, 10);
        within("eta", self.eta as u64, 2, 100);
        if let Some(resource) = &self.resource {
            within("resource.least", resource.least, 1, 1_000_000);
        }
        if self.rungs > 1 && self.resource.is_none() {
            mistakes.push(format!(
                "`rungs`: found {}, without a `resource` allowed is 1",
                self.rungs
            ));
        }
        let named: Option<ModelRef> = self.model.parse().ok();
        if named.is_none_or(|named| named.name != self.model) {
            mistakes.push(format!(
                "`model`: found `{}`, expected a model's name",
                self.model
            ));
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(Failure::reject(format!(
                "the search has mistakes: {}",
                mistakes.join("; ")
            ))),
        }
    }

    /// How its trials are halved.
    pub(crate) fn halving(&self) -> Halving {
        Halving {
            trials: self.trials,
            eta: self.eta,
            rungs: self.rungs,
            least: self.resource.as_ref().map_or(1, |resource| resource.least),
        }
    }

    /// What a trial has of its own.
    pub(crate) fn parameters(&self, trial: usize) -> Map<String, Value> {
        self.space.samples(trial + 1, self.seed).pop().unwrap_or_default()
    }

    /// Where a trial's model goes.
    pub(crate) fn output(&self, id: &str, rung: u32, trial: usize) -> String {
        format!("{}/search/{id}/{rung}-{trial}/", self.model)
    }

    /// Where its report goes.
    pub(crate) fn report(&self, id: &str) -> String {
        format!("{}/search/{id}/report.json", self.model)
    }

    /// The whole configuration of a trial.
    pub(crate) fn config(&self, id: &str, rung: u32, trial: usize) -> Value {
        let mut config = Value::Object(self.config.clone());
        for (name, value) in self.parameters(trial) {
            place(&mut config, &name, value);
        }
        if let Some(resource) = &self.resource {
            place(
                &mut config,
                &resource.name,
                self.halving().resource_of(rung).into(),
            );
        }
        config["model"] = self.model.as_str().into();
        config["output"] = json!({ "bucket": MODELS, "prefix": self.output(id, rung, trial) });
        config
    }

    /// What a trial reads: the data set, or the inputs of a command.
    pub(crate) fn reads(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let dataset = self.config.get("dataset");
        let dataset =
            dataset.and_then(|set| Some(format!("{}/{}", text(&set["bucket"])?, text(&set["prefix"])?)));
        let inputs = self.config.get("inputs").and_then(Value::as_object);
        let inputs = inputs.into_iter().flat_map(Map::values).filter_map(text);
        dataset.into_iter().chain(inputs).collect()
    }

    /// What it writes.
    pub(crate) fn writes(&self, id: &str, rung: u32, trial: usize) -> String {
        format!("{MODELS}/{}", self.output(id, rung, trial))
    }
}

/// Sets a value at a path with dots, and makes the objects on its way.
fn place(within: &mut Value, path: &str, value: Value) {
    let (name, rest) = match path.split_once('.') {
        None => (path, None),
        Some((name, rest)) => (name, Some(rest)),
    };
    if !within.is_object() {
        *within = json!({});
    }
    match rest {
        None => within[name] = value,
        Some(rest) => place(&mut within[name], rest, value),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn search(more: Value) -> Search {
        let mut search = json!({
            "model": "churn", "kind": "train.mlp", "trials": 9,
            "config": {"dataset": {"bucket": "data", "prefix": "d1/"}, "features": ["x"]},
            "space": {"learning_rate": {"log_uniform": [0.001, 0.1]}},
        });
        search
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(search).unwrap()
    }

    #[test]
    fn a_trial_is_told_all_of_the_search_and_what_it_has_of_its_own() {
        let search = search(json!({"rungs": 2, "resource": {"name": "max_epochs", "least": 4}}));
        search.check().unwrap();
        let config = search.config("S", 1, 5);
        assert_eq!(config["max_epochs"], 12);
        assert_eq!(config["learning_rate"], search.parameters(5)["learning_rate"]);
        assert_eq!(config["features"], json!(["x"]));
        assert_eq!(config["output"]["prefix"], "churn/search/S/1-5/");
        assert_eq!(search.config("S", 0, 5)["learning_rate"], config["learning_rate"]);
        assert_eq!(search.reads(), ["data/d1/"]);
        assert_eq!(search.writes("S", 1, 5), "models/churn/search/S/1-5/");
    }

    #[test]
    fn parameters_of_a_program_lie_deeper_and_its_inputs_are_read() {
        let search = search(json!({
            "kind": "train.command",
            "config": {"command": "fit", "inputs": {"a.csv": "data/a.csv"}, "parameters": {"depth": 1}},
            "space": {"parameters.rate": {"choice": [7]}}, "resource": {"name": "parameters.epochs", "least": 2},
        }));
        let config = search.config("S", 0, 0);
        assert_eq!(config["parameters"], json!({"depth": 1, "rate": 7, "epochs": 2}));
        assert_eq!(search.reads(), ["data/a.csv"]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let wrong = search(json!({
            "model": "a@b", "trials": 0, "rungs": 3, "eta": 1, "space": {"x": {"integer": [2, 1]}},
        }));
        let told = wrong.check().unwrap_err();
        for part in [
            "`space.x`: found {\"integer\":[2,1]}",
            "`trials`: found 0, allowed are 1 to 1000",
            "`eta`: found 1, allowed are 2 to 100",
            "`rungs`: found 3, without a `resource` allowed is 1",
            "`model`: found `a@b`, expected a model's name",
        ] {
            assert!(
                told.reason().contains(part),
                "`{part}` is not in: {}",
                told.reason()
            );
        }
    }
}
