//! The registry: records of model versions and aliases, and their keys in the state table [`TABLE`].
//!
//! ```text
//! ranker/versions/000000000001   ModelVersion, written once
//! ranker/aliases/champion        Alias
//! ranker/next                    Next: the number the next version gets
//! ```
//!
//! Writers use conditional puts on all three, so that two evaluations never register the same number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::promotion::Decision;

/// The state table that holds the registry.
pub const TABLE: &str = "models";
/// The alias of the version in production.
pub const CHAMPION: &str = "champion";
/// The alias of the version that was in production before.
pub const PREVIOUS: &str = "previous";
/// The alias of the newest version that is better than the champion by too little.
pub const CANDIDATE: &str = "candidate";

/// A registered version of a model. Never changed once written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The model's name.
    pub model: String,
    /// Counted from 1.
    pub version: u64,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
    /// The model file.
    pub artifact: Artifact,
    /// Metrics by name: the test split's as `auc`, `log_loss` and so on, others as `validation.auc`.
    pub metrics: BTreeMap<String, f64>,
    /// The parameters of its training.
    pub parameters: Map<String, Value>,
    /// What it was trained on.
    pub dataset: Dataset,
    /// What made it: digests or versions of code, by the name of the part.
    pub code: BTreeMap<String, String>,
    /// The features it takes.
    pub signature: Signature,
    /// What became of it when it was registered.
    pub decision: Decision,
    /// Why.
    pub reason: String,
    /// The version it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<Comparison>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A model file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// What a version was trained on; empty of one that somebody brought along.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The dataset's id.
    pub id: String,
    /// The bucket of the training set.
    pub bucket: String,
    /// The prefix of the training set.
    pub prefix: String,
    /// SHA-256 of the training set's contents.
    pub digest: String,
}

/// The features a model takes, in order. Two models with equal signatures can score the same rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Names of the user features.
    #[serde(default)]
    pub user_features: Vec<String>,
    /// Names of the item features.
    #[serde(default)]
    pub item_features: Vec<String>,
    /// The tensors that it takes, of a model that somebody brought along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Tensor>,
    /// The tensors that it gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Tensor>,
}

/// A tensor that a model takes or gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its type, as the Open Inference Protocol calls it: `FP32`, `INT64`, `BYTES`.
    pub datatype: String,
    /// Its dimensions; -1 where whoever asks decides.
    pub shape: Vec<i64>,
}

/// The champion a version was compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The champion's version.
    pub version: u64,
    /// The champion's AUC.
    pub auc: f64,
    /// Whether that AUC was computed on the same test split; if not, it is the one of its registration.
    pub same_split: bool,
}

/// The run and the job that made a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The id of the event that led to it.
    pub event: String,
    /// The trace id of the run.
    pub trace: String,
    /// The training job.
    pub job: String,
}

/// The version that an alias points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The version.
    pub version: u64,
    /// When it was set, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub since: u64,
    /// Versions that share its requests, each with its hundredths; empty where the one version has them all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<u64, u64>,
    /// A version that is asked the same as well, and never answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<u64>,
    /// Whether its requests are counted, to be compared with what the version before it had shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub watched: bool,
}

impl Alias {
    /// An alias of one version, which has all requests.
    pub fn to(version: u64, since: u64) -> Self {
        Self {
            version,
            since,
            versions: BTreeMap::new(),
            shadow: None,
            watched: false,
        }
    }
}

/// The number the next version gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Counted from 1.
    pub version: u64,
}

/// The aliases that a decision sets, each with the version it then points at.
pub fn aliases(decision: Decision, version: u64, champion: Option<u64>) -> Vec<(&'static str, u64)> {
    match decision {
        Decision::Promote => {
            let previous = champion.map(|champion| (PREVIOUS, champion));
            [(CHAMPION, version)].into_iter().chain(previous).collect()
        }
        Decision::Candidate => vec![(CANDIDATE, version)],
        Decision::Reject => Vec::new(),
    }
}

/// The key of a version.
pub fn version_key(model: &str, version: u64) -> String {
    format!("{}{version:012}", versions_prefix(model))
}

/// The prefix of a model's versions, oldest first.
pub fn versions_prefix(model: &str) -> String {
    format!("{model}/versions/")
}

/// The key of an alias.
pub fn alias_key(model: &str, alias: &str) -> String {
    format!("{}{alias}", aliases_prefix(model))
}

/// The prefix of a model's aliases.
pub fn aliases_prefix(model: &str) -> String {
    format!("{model}/aliases/")
}

/// The key of the number the next version gets.
pub fn next_key(model: &str) -> String {
    format!("{model}/next")
}

/// What a key of [`TABLE`] stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<'a> {
    /// A version of a model.
    Version(&'a str, u64),
    /// An alias of a model.
    Alias(&'a str, &'a str),
    /// The counter of a model.
    Next(&'a str),
}

/// Reads a key of [`TABLE`]; none where it is not one of the registry's.
pub fn parse_key(key: &str) -> Option<Key<'_>> {
    let (model, rest) = key.split_once('/')?;
    match rest.split_once('/') {
        Some(("versions", version)) => Some(Key::Version(model, version.parse().ok()?)),
        Some(("aliases", alias)) => Some(Key::Alias(model, alias)),
        None if rest == "next" => Some(Key::Next(model)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_versions_and_read_back() {
        assert_eq!(version_key("ranker", 1), "ranker/versions/000000000001");
        assert!(version_key("ranker", 9) < version_key("ranker", 10));
        assert_eq!(
            parse_key(&version_key("ranker", 42)),
            Some(Key::Version("ranker", 42))
        );
        assert_eq!(
            parse_key(&alias_key("ranker", CHAMPION)),
            Some(Key::Alias("ranker", "champion"))
        );
        assert_eq!(parse_key(&next_key("ranker")), Some(Key::Next("ranker")));
        assert_eq!(parse_key("ranker/other/1"), None);
        assert_eq!(parse_key("ranker"), None);
    }

    #[test]
    fn a_version_survives_json() {
        let version = ModelVersion {
            model: "ranker".into(),
            version: 3,
            created: 1,
            artifact: Artifact {
                bucket: "models".into(),
                key: "k".into(),
                sha256: "ab".into(),
                size: 9,
            },
            metrics: BTreeMap::from([("auc".into(), 0.1 + 0.2)]),
            parameters: Map::from_iter([("seed".into(), Value::from(42))]),
            dataset: Dataset {
                id: "d".into(),
                bucket: "data".into(),
                prefix: "p/".into(),
                digest: "cd".into(),
            },
            code: BTreeMap::new(),
            signature: Signature {
                user_features: vec!["rate".into()],
                ..Signature::default()
            },
            decision: Decision::Candidate,
            reason: "better".into(),
            compared_with: Some(Comparison {
                version: 2,
                auc: 0.3,
                same_split: true,
            }),
            origin: Origin::default(),
        };
        let json = serde_json::to_vec(&version).unwrap();
        assert_eq!(serde_json::from_slice::<ModelVersion>(&json).unwrap(), version);
    }

    #[test]
    fn a_promotion_keeps_the_old_champion_as_previous() {
        assert_eq!(aliases(Decision::Promote, 1, None), [("champion", 1)]);
        assert_eq!(
            aliases(Decision::Promote, 4, Some(2)),
            [("champion", 4), ("previous", 2)]
        );
        assert_eq!(aliases(Decision::Candidate, 4, Some(2)), [("candidate", 4)]);
        assert_eq!(aliases(Decision::Reject, 4, Some(2)), []);
    }

    #[test]
    fn an_alias_needs_no_more_than_a_version() {
        let alias: Alias = serde_json::from_str(r#"{"version":1}"#).unwrap();
        assert_eq!(alias, Alias::to(1, 0));
        let split = r#"{"version":3,"since":7,"versions":{"3":95,"4":5},"shadow":2}"#;
        let alias: Alias = serde_json::from_str(split).unwrap();
        assert_eq!(alias.versions, BTreeMap::from([(3, 95), (4, 5)]));
        assert_eq!(serde_json::to_string(&alias).unwrap(), split);
    }
}
