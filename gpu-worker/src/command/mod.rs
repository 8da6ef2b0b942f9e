//! The job kind `train.command`: a program that the operator of the worker allows by name.
//!
//! The program is told its job by a JSON file and finds its inputs as files ([`scratch`]), says how far it is by JSON lines
//! on its standard output ([`told`]), and leaves what it made in a folder, which is uploaded. It is a process group that ends
//! with its job ([`process`]). `docs/training.md` has the contract.

pub mod config;
mod process;
mod scratch;
mod told;

use std::process::ExitStatus;

use serde_json::{Value, json};

use crate::jobs::session::{JobError, Session};
use config::CommandConfig;
pub use config::Commands;
use process::Process;
use scratch::Scratch;
use told::Told;

/// The name of the kind.
pub const KIND: &str = "train.command";
/// What a program ends with that failed for a passing reason (`EX_TEMPFAIL`).
const TRY_AGAIN: i32 = 75;

/// Runs a job to its outputs.
pub fn run(commands: &Commands, config: &Value, session: &dyn Session) -> Result<Value, JobError> {
    let config = CommandConfig::parse(config).map_err(|mistakes| JobError::Invalid(mistakes.to_string()))?;
    let command = commands.find(&config.command).map_err(JobError::Invalid)?;
    let scratch = Scratch::make(&config, session)?;
    let mut told = Told::before(&scratch);
    let process = Process::start(command, &scratch).map_err(JobError::Invalid)?;
    let mut hear = |heard| told.hear(heard, &scratch, session);
    let status = process.follow(&mut hear, &|| session.abandoned())?;
    if !status.success() {
        return Err(failed(&config.command, status, told.last_words()));
    }
    let (model, files) = scratch.upload(&config.output, session)?;
    let mut outputs = told.outputs();
    outputs.insert("files".to_owned(), files.into());
    outputs.insert("parameters".to_owned(), config.parameters.into());
    outputs.extend(model.map(|model| ("model".to_owned(), model)));
    Ok(json!(outputs))
}

fn failed(command: &str, status: ExitStatus, last: String) -> JobError {
    let failure = JobError::Program {
        command: command.to_owned(),
        status: status.to_string(),
        last,
    };
    match status.code() {
        Some(TRY_AGAIN) => JobError::Transient(failure.to_string()),
        _ => failure,
    }
}
