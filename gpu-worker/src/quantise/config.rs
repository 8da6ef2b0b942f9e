//! What a job that makes a model INT8 can be told, its defaults and bounds.

use serde_json::Value;

use crate::predict::config::Columns;
use crate::train::fields::{ConfigMistakes, Fields, Location};

/// Rows that both models are asked about at most.
const MOST_ROWS: usize = 10_000_000;

/// A job's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantiseConfig {
    /// The model, and which of its versions (`model`, required).
    pub model: String,
    /// Where the variant's file goes (`output`, required).
    pub output: Location,
    /// The alias that the variant gets (`alias`, "int8").
    pub alias: String,
    /// Whether tables in which rows are looked up become INT8 as well (`tables`, false).
    pub tables: bool,
    /// Where the rows lie that both models are asked about (`sample`, required).
    pub sample: Location,
    /// The columns of each input (`inputs`; of one that is not named the column of its name).
    pub inputs: Columns,
    /// The column of what is true, 0 or 1 (`label`; none, and no AUC).
    pub label: Option<String>,
    /// Rows that both are asked about (`rows`, 10,000).
    pub rows: usize,
    /// How far an output may be from the reference's (`tolerance`, 0.05).
    pub tolerance: f64,
}

impl QuantiseConfig {
    /// Reads and checks a configuration.
    pub fn parse(value: &Value) -> Result<Self, ConfigMistakes> {
        let mut fields = Fields::open(value);
        let config = Self {
            model: fields.text("model", None),
            output: fields.location("output"),
            alias: fields.text("alias", Some("int8")),
            tables: fields.flag("tables"),
            sample: fields.location("sample"),
            inputs: fields.columns("inputs"),
            label: Some(fields.text("label", Some(""))).filter(|label| !label.is_empty()),
            rows: fields.whole("rows", 10_000, 1, MOST_ROWS),
            tolerance: fields.number("tolerance", 0.05, 0.0, 1e9),
        };
        fields.finish().map(|()| config)
    }
}
