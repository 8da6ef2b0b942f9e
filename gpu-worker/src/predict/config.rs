//! What a batch prediction can be told, its defaults and bounds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::table::PIECE;
use crate::train::fields::{ConfigMistakes, Fields, Location};

/// Columns that a job may keep at most.
const MOST_KEPT: usize = 1000;

/// Columns by the name of the input or output that they are.
pub type Columns = BTreeMap<String, Vec<String>>;

/// A job's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchConfig {
    /// The model, and which of its versions (`model`, required).
    pub model: String,
    /// Where the files lie (`input`, required).
    pub input: Location,
    /// Where the predictions go (`output`, required).
    pub output: Location,
    /// The columns of each input (`inputs`; of one that is not named the column of its name).
    pub inputs: Columns,
    /// The columns of each output that is wanted (`outputs`; all outputs under their own names).
    pub outputs: Columns,
    /// Columns that go over as they are (`keep`, none).
    pub keep: Vec<String>,
    /// Rows of one run of the model (`batch_size`, 1,024).
    pub batch_size: usize,
    /// ONNX Runtime's threads inside a run (`threads`, 1).
    pub threads: usize,
}

impl BatchConfig {
    /// Reads and checks a configuration.
    pub fn parse(value: &Value) -> Result<Self, ConfigMistakes> {
        let mut fields = Fields::open(value);
        let config = Self {
            model: fields.text("model", None),
            input: fields.location("input"),
            output: fields.location("output"),
            inputs: fields.columns("inputs"),
            outputs: fields.columns("outputs"),
            keep: fields.names_if_any("keep", MOST_KEPT),
            batch_size: fields.whole("batch_size", 1024, 1, PIECE),
            threads: fields.whole("threads", 1, 1, 64),
        };
        // Else what one attempt wrote would be what another one reads.
        let (input, output) = (&config.input, &config.output);
        let one_in_the_other =
            input.prefix.starts_with(&output.prefix) || output.prefix.starts_with(&input.prefix);
        if input.bucket == output.bucket && one_in_the_other && !input.bucket.is_empty() {
            let place = format!("{}/{}", output.bucket, output.prefix);
            fields.wrong(format!(
                "`output`: found `{place}`, allowed is a place apart from `input`"
            ));
        }
        fields.finish().map(|()| config)
    }
}
