//! What a `train.command` job can be told, and the commands that the operator of a worker allows.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::train::fields::{ConfigMistakes, Fields, Location};

/// Inputs of a job at most.
const MOST_INPUTS: usize = 1000;

/// A job's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandConfig {
    /// Name of the model (`model`, required).
    pub model: String,
    /// The command's name, as the worker's operator gave it (`command`, required).
    pub command: String,
    /// Bucket and key of objects, by the names that they have as files (`inputs`, none).
    pub inputs: BTreeMap<String, (String, String)>,
    /// What the program is told besides (`parameters`, none).
    pub parameters: Map<String, Value>,
    /// Where its files go (`output`, required).
    pub output: Location,
}

impl CommandConfig {
    /// Reads and checks a job's configuration.
    pub fn parse(value: &Value) -> Result<Self, ConfigMistakes> {
        let mut fields = Fields::open(value);
        let config = Self {
            model: fields.text("model", None),
            command: fields.text("command", None),
            inputs: fields.places("inputs", MOST_INPUTS),
            parameters: fields.object("parameters"),
            output: fields.location("output"),
        };
        fields.finish().map(|()| config)
    }
}

/// The commands that a worker runs, by their names: a program and its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands(BTreeMap<String, Vec<String>>);

impl Commands {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The program of a command, and its arguments.
    pub fn find(&self, name: &str) -> Result<(&str, &[String]), String> {
        let found = self.0.get(name).and_then(|command| command.split_first());
        found
            .map(|(program, arguments)| (program.as_str(), arguments))
            .ok_or_else(|| {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                let known = known.join("`, `");
                format!("this worker has no command `{name}`, allowed are `{known}`")
            })
    }
}

impl FromStr for Commands {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let commands: BTreeMap<String, Vec<String>> = serde_json::from_str(text).map_err(|error| {
            format!("expected JSON such as `{{\"NAME\": [\"PROGRAM\", \"ARGUMENT\"]}}`: {error}")
        })?;
        match commands.iter().find(|(_, command)| command.is_empty()) {
            Some((name, _)) => Err(format!("command `{name}` names no program")),
            None => Ok(Self(commands)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_mistake_is_told_at_once() {
        let wrong = json!({
            "model": "m", "inputs": {"../x": "data/x", "y": "data"}, "parameters": [], "output": {"bucket": "b"},
            "program": "sh",
        });
        let told = CommandConfig::parse(&wrong).unwrap_err().to_string();
        for part in [
            "`command` is missing",
            "`inputs`: found {\"../x\":\"data/x\",\"y\":\"data\"}",
            "`parameters`: found []",
            "in `output`: `prefix` is missing",
            "unknown key `program`",
        ] {
            assert!(told.contains(part), "`{part}` is not in: {told}");
        }
    }

    #[test]
    fn commands_are_what_the_operator_names_and_nothing_else() {
        let commands: Commands = r#"{"fit": ["python3", "fit.py"]}"#.parse().unwrap();
        let (program, arguments) = commands.find("fit").unwrap();
        assert_eq!((program, arguments), ("python3", &["fit.py".to_owned()][..]));
        assert!(commands.find("sh").unwrap_err().contains("allowed are `fit`"));
        let without_program = r#"{"fit": []}"#.parse::<Commands>().unwrap_err();
        assert!(without_program.contains("names no program"), "{without_program}");
        assert!("fit".parse::<Commands>().is_err());
    }
}
