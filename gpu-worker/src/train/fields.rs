//! The fields of a job's configuration, taken one by one. Every mistake is reported in one go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// A prefix in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The prefix, ending in `/`.
    pub prefix: String,
}

impl Location {
    /// The key of `name` under the prefix.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Devices of one machine that may share a step.
const MOST_REPLICAS: usize = 64;

/// The device a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The CPU.
    Cpu,
    /// An NVIDIA device; an error where the worker was built without `cuda`.
    Cuda,
    /// `cuda` where the worker has it, else the CPU.
    Auto,
}

/// How much the rows of a class count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClassWeights {
    /// As much as those of the other class together.
    Balanced,
    /// So much each.
    Given([f32; 2]),
}

impl ClassWeights {
    /// The weights of the classes 0 and 1, for these labels.
    pub fn of(self, labels: &[f32]) -> [f32; 2] {
        match self {
            Self::Given(weights) => weights,
            Self::Balanced => {
                let positives = labels.iter().filter(|&&label| label > 0.5).count();
                let share = |count: usize| labels.len() as f32 / (2.0 * count.max(1) as f32);
                [share(labels.len() - positives), share(positives)]
            }
        }
    }

    /// As the registry keeps them.
    pub fn parameter(self) -> Value {
        match self {
            Self::Balanced => "balanced".into(),
            Self::Given(weights) => weights.map(short).to_vec().into(),
        }
    }
}

/// Every mistake in a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the job's config has {} mistake(s): {}", .0.len(), .0.join("; "))]
pub struct ConfigMistakes(pub Vec<String>);

/// The shortest decimal that is this `f32`, so that 0.3 does not become 0.30000001192092896.
pub fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The fields of a JSON object, taken one by one; what is left over is unknown.
pub struct Fields {
    map: Map<String, Value>,
    known: Vec<&'static str>,
    mistakes: Vec<String>,
}

impl Fields {
    /// The fields of a value, which must be an object.
    pub fn open(value: &Value) -> Self {
        let (map, mistakes) = match value {
            Value::Object(map) => (map.clone(), Vec::new()),
            other => (Map::new(), vec![format!("found {other}, an object was expected")]),
        };
        Self {
            map,
            known: Vec::new(),
            mistakes,
        }
    }

    /// One of some words; the first where there is none.
    pub fn word(&mut self, name: &'static str, allowed: &[&'static str]) -> &'static str {
        let default = allowed.first().copied().unwrap_or_default();
        let Some(found) = self.take(name) else {
            return default;
        };
        let known = allowed.iter().find(|word| found.as_str() == Some(**word));
        known.copied().unwrap_or_else(|| {
            self.mistake(name, &found, &format!("`{}`", allowed.join("`, `")));
            default
        })
    }

    /// A list of one to so many different names.
    pub fn names(&mut self, name: &'static str, most: usize) -> Vec<String> {
        let Some(value) = self.take(name) else {
            self.mistakes.push(format!("`{name}` is missing"));
            return Vec::new();
        };
        let names: Option<Vec<String>> = value.as_array().and_then(|list| {
            let names = list
                .iter()
                .map(|name| name.as_str().filter(|name| !name.is_empty()));
            names.map(|name| name.map(str::to_owned)).collect()
        });
        let different = |names: &Vec<String>| {
            let distinct: BTreeSet<&String> = names.iter().collect();
            (1..=most).contains(&names.len()) && distinct.len() == names.len()
        };
        names.filter(different).unwrap_or_else(|| {
            self.mistake(name, &value, &format!("a list of 1 to {most} different names"));
            Vec::new()
        })
    }

    /// An object of whatever is in it; none is empty.
    pub fn object(&mut self, name: &'static str) -> Map<String, Value> {
        match self.take(name) {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.mistake(name, &other, "an object");
                Map::new()
            }
        }
    }

    /// Up to so many objects, `bucket/key`, by the names that they have as files.
    pub fn places(&mut self, name: &'static str, most: usize) -> BTreeMap<String, (String, String)> {
        let Some(value) = self.take(name) else {
            return BTreeMap::new();
        };
        let place = |(file, place): (&String, &Value)| {
            let (bucket, key) = place.as_str()?.split_once('/')?;
            let plain = !file.is_empty() && !file.starts_with('.') && !file.contains('/');
            let whole = plain && !bucket.is_empty() && !key.is_empty();
            whole.then(|| (file.clone(), (bucket.to_owned(), key.to_owned())))
        };
        let places = value.as_object().filter(|map| map.len() <= most);
        let places: Option<BTreeMap<_, _>> = places.and_then(|map| map.iter().map(place).collect());
        places.unwrap_or_else(|| {
            let allowed = format!("up to {most} of `\"FILE\": \"BUCKET/KEY\"`, files without a folder");
            self.mistake(name, &value, &allowed);
            BTreeMap::new()
        })
    }

    /// The weights of the classes 0 and 1: two numbers, or `balanced`; both 1 otherwise.
    pub fn class_weights(&mut self) -> ClassWeights {
        let name = "class_weights";
        let Some(value) = self.take(name) else {
            return ClassWeights::Given([1.0; 2]);
        };
        if value == "balanced" {
            return ClassWeights::Balanced;
        }
        let weight = |at: usize| {
            let weight = value[at].as_f64().filter(|weight| (1e-6..=1e6).contains(weight));
            weight.map(|weight| weight as f32)
        };
        match (weight(0), weight(1), value.as_array().map(Vec::len)) {
            (Some(negative), Some(positive), Some(2)) => ClassWeights::Given([negative, positive]),
            _ => {
                self.mistake(
                    name,
                    &value,
                    "`balanced`, or two numbers from 1e-6 to 1e6, of class 0 and of class 1",
                );
                ClassWeights::Balanced
            }
        }
    }

    /// The same, where there may be none.
    pub fn names_if_any(&mut self, name: &'static str, most: usize) -> Vec<String> {
        match self.map.get(name) {
            None | Some(Value::Null) => {
                self.known.push(name);
                Vec::new()
            }
            Some(_) => self.names(name, most),
        }
    }

    /// An object of columns by what they are of: the name of one, or a list of names.
    pub fn columns(&mut self, name: &'static str) -> BTreeMap<String, Vec<String>> {
        let Some(value) = self.take(name) else {
            return BTreeMap::new();
        };
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let columns = |(of, value): (&String, &Value)| {
            let names: Option<Vec<String>> = match value.as_array() {
                Some(list) => list.iter().map(text).collect(),
                None => text(value).map(|one| vec![one]),
            };
            Some((of.clone(), names.filter(|names| !names.is_empty())?))
        };
        let all = value
            .as_object()
            .and_then(|map| map.iter().map(columns).collect());
        all.unwrap_or_else(|| {
            self.mistake(
                name,
                &value,
                "an object of columns: `\"NAME\": \"COLUMN\"` or `\"NAME\": [\"COLUMN\", ...]`",
            );
            BTreeMap::new()
        })
    }

    /// Notes a mistake that lies between fields.
    pub fn wrong(&mut self, mistake: String) {
        self.mistakes.push(mistake);
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn mistake(&mut self, name: &str, found: &Value, allowed: &str) {
        self.mistakes
            .push(format!("`{name}`: found {found}, allowed is {allowed}"));
    }

    /// A text that is not empty; without a default it has to be there.
    pub fn text(&mut self, name: &'static str, default: Option<&str>) -> String {
        match (self.take(name), default) {
            (Some(Value::String(text)), _) if !text.is_empty() => text,
            (Some(other), _) => {
                self.mistake(name, &other, "a non-empty string");
                String::new()
            }
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                self.mistakes.push(format!("`{name}` is missing"));
                String::new()
            }
        }
    }

    /// True or false; false where there is none.
    pub fn flag(&mut self, name: &'static str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.mistake(name, &other, "`true` or `false`");
                false
            }
        }
    }

    /// A whole number between two bounds.
    pub fn whole(&mut self, name: &'static str, default: usize, least: usize, most: usize) -> usize {
        let Some(value) = self.take(name) else {
            return default;
        };
        match value
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .filter(|v| (least..=most).contains(v))
        {
            Some(number) => number,
            None => {
                self.mistake(name, &value, &format!("a whole number from {least} to {most}"));
                default
            }
        }
    }

    /// A number between two bounds.
    pub fn number(&mut self, name: &'static str, default: f64, least: f64, most: f64) -> f64 {
        let Some(value) = self.take(name) else {
            return default;
        };
        match value.as_f64().filter(|v| (least..=most).contains(v)) {
            Some(number) => number,
            None => {
                self.mistake(name, &value, &format!("a number from {least} to {most}"));
                default
            }
        }
    }

    /// The widths of layers.
    pub fn widths(&mut self, name: &'static str, default: &[usize]) -> Vec<usize> {
        let Some(value) = self.take(name) else {
            return default.to_vec();
        };
        let widths: Option<Vec<usize>> = value.as_array().and_then(|list| {
            list.iter()
                .map(|v| v.as_u64().filter(|w| (1..=8192).contains(w)).map(|w| w as usize))
                .collect()
        });
        match widths.filter(|list| (1..=8).contains(&list.len())) {
            Some(widths) => widths,
            None => {
                self.mistake(name, &value, "a list of 1 to 8 widths from 1 to 8192");
                default.to_vec()
            }
        }
    }

    /// A bucket and a prefix, which have to be there.
    pub fn location(&mut self, name: &'static str) -> Location {
        let Some(value) = self.take(name) else {
            self.mistakes.push(format!("`{name}` is missing"));
            return Location {
                bucket: String::new(),
                prefix: String::new(),
            };
        };
        if !value.is_object() {
            self.mistake(name, &value, "an object with `bucket` and `prefix`");
        }
        let mut inner = Fields {
            map: value.as_object().cloned().unwrap_or_default(),
            known: Vec::new(),
            mistakes: Vec::new(),
        };
        let bucket = inner.text("bucket", None);
        let mut prefix = inner.text("prefix", None);
        if !prefix.ends_with('/') {
            prefix.push('/');
        }
        if let (true, Err(ConfigMistakes(mistakes))) = (value.is_object(), inner.finish()) {
            self.mistakes
                .extend(mistakes.into_iter().map(|m| format!("in `{name}`: {m}")));
        }
        Location { bucket, prefix }
    }

    /// Where to train, by the key `device`.
    pub fn device(&mut self) -> DeviceChoice {
        match self.text("device", Some("auto")).as_str() {
            "cpu" => DeviceChoice::Cpu,
            "cuda" => DeviceChoice::Cuda,
            "auto" | "" => DeviceChoice::Auto,
            other => {
                self.mistake("device", &Value::from(other), "`cpu`, `cuda` or `auto`");
                DeviceChoice::Auto
            }
        }
    }

    /// How many devices share each step, by the key `replicas`.
    pub fn replicas(&mut self) -> usize {
        self.whole("replicas", 1, 1, MOST_REPLICAS)
    }

    /// All that was wrong, keys that nobody asked for included.
    pub fn finish(mut self) -> Result<(), ConfigMistakes> {
        let allowed = self.known.join("`, `");
        for key in self.map.keys() {
            self.mistakes
                .push(format!("unknown key `{key}`, allowed are `{allowed}`"));
        }
        if self.mistakes.is_empty() {
            Ok(())
        } else {
            Err(ConfigMistakes(self.mistakes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_weigh_the_same_together() {
        let labels = [0.0, 0.0, 0.0, 1.0];
        let [negative, positive] = ClassWeights::Balanced.of(&labels);
        assert!((3.0 * negative - positive).abs() < 1e-6 && (3.0 * negative + positive - 4.0).abs() < 1e-6);
        assert_eq!(ClassWeights::Given([1.0, 5.0]).of(&labels), [1.0, 5.0]);
    }
}
