//! The training job: its config from the function's variables, and where its model goes.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::features::training;

/// The job kind.
pub const KIND: &str = "train.two-tower";
/// The event that a finished job becomes.
pub const EMITS: &str = "ModelTrained";
/// The model's name.
pub const MODEL: &str = "ranker";
/// The bucket of the models.
pub const BUCKET: &str = "models";

/// Hexadecimal digits of an output prefix.
const DIGITS: usize = 16;

/// A prefix in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The prefix, ending in `/`.
    pub prefix: String,
}

impl Location {
    /// `bucket/prefix`, as a job's reads and writes are granted.
    pub fn grant(&self) -> String {
        format!("{}/{}", self.bucket, self.prefix)
    }
}

/// The config of a job of kind [`KIND`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobConfig {
    /// The model's name.
    pub model: &'static str,
    /// The training set.
    pub dataset: Location,
    /// Where the model goes.
    pub output: Location,
    /// How to train.
    #[serde(flatten)]
    pub settings: Settings,
}

/// How to train: the function's variables. What is not set is the worker's choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_dim: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    towers: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_epochs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patience: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_decay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_decay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_init: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

/// Every variable that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct SettingsError(Vec<String>);

impl Settings {
    /// Reads the variables; every mistake is named in one go.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut read = Variables {
            variable,
            mistakes: Vec::new(),
        };
        let settings = Self {
            embedding_dim: read.number("embedding_dim"),
            towers: read.list("towers"),
            learning_rate: read.number("learning_rate"),
            batch_size: read.number("batch_size"),
            max_epochs: read.number("max_epochs"),
            patience: read.number("patience"),
            seed: read.number("seed"),
            id_dropout: read.number("id_dropout"),
            dropout: read.number("dropout"),
            weight_decay: read.number("weight_decay"),
            embedding_decay: read.number("embedding_decay"),
            embedding_init: read.number("embedding_init"),
            min_count: read.number("min_count"),
            device: read.number("device"),
        };
        if read.mistakes.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError(read.mistakes))
        }
    }
}

struct Variables<F> {
    variable: F,
    mistakes: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let text = (self.variable)(name)?;
        self.parse(name, &text)
    }

    fn list<T: FromStr>(&mut self, name: &str) -> Option<Vec<T>> {
        let text = (self.variable)(name)?;
        text.split(',').map(|entry| self.parse(name, entry)).collect()
    }

    fn parse<T: FromStr>(&mut self, name: &str, text: &str) -> Option<T> {
        let value = text.trim().parse().ok();
        if value.is_none() {
            let wanted = std::any::type_name::<T>();
            self.mistakes.push(format!(
                "variable `{name}`: found `{text}`, allowed is a value of type `{wanted}`"
            ));
        }
        value
    }
}

/// The job that trains on a training set.
///
/// The model goes to a prefix made of what determines it: the training set's digest and the settings. So the same
/// job, however often it is run, writes the same objects.
pub fn job(prefix: &str, digest: &str, settings: Settings) -> Result<JobConfig, serde_json::Error> {
    let identity = sha256_hex(format!("{digest}\n{}", serde_json::to_string(&settings)?).as_bytes());
    let id = identity.get(..DIGITS).unwrap_or(&identity);
    Ok(JobConfig {
        model: MODEL,
        dataset: Location {
            bucket: training::BUCKET.to_owned(),
            prefix: prefix.to_owned(),
        },
        output: Location {
            bucket: BUCKET.to_owned(),
            prefix: format!("{MODEL}/{id}/"),
        },
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &'static [(&str, &str)]) -> Result<Settings, SettingsError> {
        let find = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::from_variables(find)
    }

    #[test]
    fn the_config_has_the_variables_and_leaves_the_rest_to_the_worker() {
        let settings =
            settings(&[("towers", "256, 128"), ("learning_rate", "0.001"), ("seed", "42")]).unwrap();
        let job = job("features/d/", "abc", settings).unwrap();
        let json = serde_json::to_value(&job).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "model": "ranker",
                "dataset": {"bucket": "data", "prefix": "features/d/"},
                "output": {"bucket": "models", "prefix": job.output.prefix},
                "towers": [256, 128],
                "learning_rate": 0.001,
                "seed": 42,
            })
        );
        assert_eq!(job.output.grant(), format!("models/{}", job.output.prefix));
    }

    #[test]
    fn the_output_depends_on_the_data_and_the_settings_and_on_nothing_else() {
        let output = |prefix, digest, seed: &'static [(&str, &str)]| {
            job(prefix, digest, settings(seed).unwrap())
                .unwrap()
                .output
                .prefix
        };
        let one = output("features/a/", "abc", &[("seed", "1")]);
        assert_eq!(one, output("features/b/", "abc", &[("seed", "1")]));
        assert_ne!(one, output("features/a/", "abd", &[("seed", "1")]));
        assert_ne!(one, output("features/a/", "abc", &[("seed", "2")]));
        assert!(one.starts_with("ranker/") && one.ends_with('/') && one.len() == "ranker//".len() + DIGITS);
    }

    #[test]
    fn every_mistake_is_named() {
        let error = settings(&[("towers", "256,wide"), ("seed", "-1")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`towers`") && error.contains("`wide`") && error.contains("`seed`"),
            "{error}"
        );
    }
}
