//! Training: the kinds of job that make models, and what they share.
//!
//! What is shared stands here: [`fields`] of a configuration, [`columns`] of Parquet files, each as a [`column`] that may be
//! larger than memory, and [`tabular`] rows of data sets, the loop over [`epochs`], steps that a [`gang`] of devices shares,
//! [`metrics`], the one source of randomness [`rng`], and [`sealed`] checkpoints. Each kind has a folder of its own:
//! [`two_tower`], [`mlp`], and [`trees`] has two.

pub mod column;
pub mod columns;
pub mod epochs;
pub mod fields;
pub mod gang;
pub mod metrics;
pub mod mlp;
pub mod pace;
pub mod rng;
pub mod scaling;
pub mod sealed;
pub mod tabular;
pub mod tensors;
#[cfg(test)]
pub(crate) mod testing;
pub mod trees;
pub mod two_tower;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::devices;
use crate::jobs::session::{JobError, Session};
use fields::Location;

/// The file that is a job's model, under its output.
pub(crate) const MODEL: &str = "model.onnx";

/// Refuses what would not fit into the machine's memory, before it is taken.
fn fits(bytes: u64, what: &str, remedy: &str) -> Result<(), JobError> {
    let there = devices::system_memory();
    if there == 0 || bytes <= there / 10 * 9 {
        return Ok(());
    }
    Err(JobError::OutOfMemory(format!(
        "{what} would take {bytes} bytes, and the machine has {there}: nine tenths of that would fit; \
         {remedy} makes it smaller"
    )))
}

/// Writes a model where a job's configuration says, and tells what it wrote.
fn written(session: &dyn Session, output: &Location, file: Vec<u8>) -> Result<Value, JobError> {
    uploaded(session, output, MODEL, file)
}

/// Writes a file where a job's configuration says, and tells what it wrote.
pub(crate) fn uploaded(
    session: &dyn Session,
    output: &Location,
    name: &str,
    file: Vec<u8>,
) -> Result<Value, JobError> {
    let key = output.key(name);
    let place = json!({
        "bucket": output.bucket,
        "key": key,
        "sha256": hex(&Sha256::digest(&file)),
        "size": file.len(),
    });
    session.write(&output.bucket, &key, file.into())?;
    Ok(place)
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
