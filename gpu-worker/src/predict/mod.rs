//! The job kind `predict.batch`: Parquet files in, for each one a Parquet file out, predicted by a registered model.
//!
//! Files are taken in the order of their keys, [`table`]s piece by piece, so that memory does not grow with them. How columns
//! become a model's inputs and its outputs columns is the [`mapping`]'s; [`scorer`] runs the model, and [`written`] keeps
//! what it said. After each file the job remembers where it is: what is done is not done again, and what was begun
//! comes out the same.

pub mod config;
pub mod mapping;
pub mod scorer;
pub mod table;
pub mod values;
pub mod written;

use std::fs::File;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::jobs::session::{JobError, Progress, Registered, Session};
use crate::train::fields::Location;
use config::BatchConfig;
use mapping::Mapping;
use scorer::Scorer;
use table::Table;
use written::Written;

/// The kind.
pub const KIND: &str = "predict.batch";
/// Files of a job at most.
const MOST_FILES: usize = 10_000;

/// Where a job is: what a later attempt goes on from.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The version that the first attempt found; later ones keep to it, whatever an alias stands for by then.
    model: Option<Registered>,
    /// The last file that is done.
    after: Option<String>,
    files: u64,
    rows: u64,
    bytes: u64,
}

/// Runs a job to its outputs.
pub fn run(config: &Value, session: &dyn Session) -> Result<Value, JobError> {
    let config = BatchConfig::parse(config).map_err(|mistakes| JobError::Invalid(mistakes.to_string()))?;
    let mut state = resumed(session)?;
    let model = match state.model.clone() {
        Some(model) => model,
        None => session.model(&config.model)?,
    };
    state.model = Some(model.clone());
    let files = parquet_files(session, &config.input)?;
    let scorer = Scorer::open(session, &model, config.threads)?;
    let mapping = Mapping::new(
        &config.inputs,
        Some(&config.outputs),
        &config.keep,
        scorer.signature(),
    );
    let after = state.after.clone();
    let left = |key: &&String| after.as_ref().is_none_or(|after| *key > after);
    for key in files.iter().filter(left) {
        let file = session.download(&config.input.bucket, key)?;
        let said = |reason: String| JobError::Invalid(format!("`{}/{key}` {reason}", config.input.bucket));
        let table = Table::open(file).map_err(said)?;
        let (rows, content) =
            predicted(&table, &mapping, &scorer, &config, session).map_err(|error| error.map(said))?;
        let name = key.strip_prefix(&config.input.prefix).unwrap_or(key);
        session.upload(&config.output.bucket, &config.output.key(name), &content)?;
        state.rows += rows;
        state.bytes += content.metadata().map_or(0, |metadata| metadata.len());
        state.files += 1;
        state.after = Some(key.clone());
        session.save_checkpoint(serde_json::to_vec(&state).unwrap_or_default().into())?;
        session.report(progress(&state, files.len()));
    }
    Ok(json!({
        "kind": KIND,
        "model": model,
        "output": { "bucket": config.output.bucket, "prefix": config.output.prefix },
        "files": state.files,
        "rows": state.rows,
        "bytes": state.bytes,
    }))
}

/// Why a file was not predicted: its own fault, or the job's end.
enum Stopped {
    Wrong(String),
    Job(JobError),
}

impl Stopped {
    fn map(self, said: impl Fn(String) -> JobError) -> JobError {
        match self {
            Self::Wrong(reason) => said(reason),
            Self::Job(error) => error,
        }
    }
}

impl From<String> for Stopped {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

/// The predictions of a file, as one of their own, and how many rows it has.
fn predicted(
    table: &Table,
    mapping: &Mapping,
    scorer: &Scorer,
    config: &BatchConfig,
    session: &dyn Session,
) -> Result<(u64, File), Stopped> {
    let layout = mapping.layout(table)?;
    let mut written = Written::begin(&layout.fields)?;
    let mut pieces = table.pieces(&layout.columns);
    let mut rows = 0;
    while let Some(piece) = pieces.read()? {
        let mut given = mapping.empty();
        for from in (0..piece.rows).step_by(config.batch_size) {
            if session.abandoned() {
                return Err(Stopped::Job(JobError::Abandoned));
            }
            let to = piece.rows.min(from + config.batch_size);
            let inputs = mapping.inputs(&layout, &piece, from..to)?;
            mapping.collect(&scorer.run(&inputs)?, to - from, &mut given)?;
        }
        let kept = layout.kept.iter().filter_map(|&at| piece.columns.get(at));
        written.group(kept.chain(&given))?;
        rows += piece.rows as u64;
    }
    Ok((rows, written.finish()?))
}

/// The keys of the files to predict, in order.
pub(crate) fn parquet_files(session: &dyn Session, input: &Location) -> Result<Vec<String>, JobError> {
    let place = format!("{}/{}", input.bucket, input.prefix);
    let (mut files, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = session.list(&input.bucket, &input.prefix, after.as_deref())?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.clone());
        files.extend(page.into_iter().filter(|key| key.ends_with(".parquet")));
        if files.len() > MOST_FILES {
            return Err(JobError::Invalid(format!(
                "`{place}` has more than {MOST_FILES} Parquet files, allowed are so many of one job; \
                 prefixes below it are for jobs of their own"
            )));
        }
    }
    match files.is_empty() {
        true => Err(JobError::Invalid(format!("`{place}` has no file `*.parquet`"))),
        false => Ok(files),
    }
}

fn resumed(session: &dyn Session) -> Result<State, JobError> {
    let Some(content) = session.load_checkpoint()? else {
        return Ok(State::default());
    };
    let state = serde_json::from_slice(&content);
    Ok(state.unwrap_or_else(|reason| {
        tracing::warn!("the checkpoint is not used, prediction starts anew: {reason}");
        State::default()
    }))
}

fn progress(state: &State, files: usize) -> Progress {
    Progress {
        done: state.files,
        total: files as u64,
        unit: "files",
        message: format!("{} rows are predicted", state.rows),
        metrics: Map::new(),
        history: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
