//! The recipe of the images, as a parser of such recipes reads it.

use anyhow::Result;
use tidegate_harness::workspace_root;

use crate::tool;

/// The recipe.
#[derive(Debug)]
pub struct Containerfile {
    /// What it is told from outside, `NAME=DEFAULT`.
    pub arguments: Vec<String>,
    /// Its stages.
    pub stages: Vec<Stage>,
}

/// A stage.
#[derive(Debug)]
pub struct Stage {
    /// What it goes on from.
    pub base: String,
    /// Its own name.
    pub name: String,
    /// Its instructions with their values.
    pub instructions: Vec<(String, String)>,
}

impl Containerfile {
    /// Reads it.
    pub fn read() -> Result<Self> {
        let file = workspace_root().join("infra/container/Containerfile");
        let answer = tool::ask("containerfile.py", &file.display().to_string())?;
        let found: Vec<(String, String)> = serde_json::from_value(answer)?;
        let mut recipe = Self {
            arguments: Vec::new(),
            stages: Vec::new(),
        };
        for (instruction, value) in found {
            recipe.take(instruction, value);
        }
        Ok(recipe)
    }

    fn take(&mut self, instruction: String, value: String) {
        match (instruction.as_str(), self.stages.last_mut()) {
            ("COMMENT", _) => {}
            ("FROM", _) => {
                let (base, name) = value.split_once(" AS ").unwrap_or((&value, ""));
                self.stages.push(Stage {
                    base: base.to_owned(),
                    name: name.to_owned(),
                    instructions: Vec::new(),
                });
            }
            (_, Some(stage)) => stage.instructions.push((instruction, value)),
            (_, None) => self.arguments.push(value),
        }
    }

    /// A stage by its name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

impl Stage {
    /// The values of all instructions of a kind.
    pub fn all<'s>(&'s self, instruction: &'s str) -> impl DoubleEndedIterator<Item = &'s str> {
        self.instructions
            .iter()
            .filter(move |(found, _)| found == instruction)
            .map(|(_, value)| value.as_str())
    }
}
