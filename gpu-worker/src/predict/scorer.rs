//! A registered model, opened for a job of its own.

use std::cell::RefCell;

use ort::session::Session as Onnx;

use crate::inference::provider::Execution;
use crate::inference::signature::Signature;
use crate::inference::tensors::Elements;
use crate::inference::{runtime, sessions};
use crate::jobs::session::{JobError, Registered, Session};

/// An opened model.
pub struct Scorer {
    session: RefCell<Onnx>,
    signature: Signature,
}

impl Scorer {
    /// Reads a registered model and opens it.
    pub fn open(session: &dyn Session, model: &Registered, threads: usize) -> Result<Self, JobError> {
        let file = session.read(&model.bucket, &model.key)?;
        Self::of(&model.name, &model.version, &file, threads)
    }

    /// Opens a model's file.
    pub fn of(name: &str, version: &str, file: &[u8], threads: usize) -> Result<Self, JobError> {
        // Another worker may have what this one lacks.
        runtime::environment().map_err(JobError::Transient)?;
        let invalid =
            |reason: String| JobError::Invalid(format!("model `{name}` version `{version}`: {reason}"));
        let session = sessions::open(file, &Execution::cpu(threads)).map_err(invalid)?;
        let signature = Signature::of(name, version, &session).map_err(invalid)?;
        Ok(Self {
            session: RefCell::new(session),
            signature,
        })
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// All outputs, in the model's order.
    pub fn run(&self, inputs: &[Elements]) -> Result<Vec<Elements>, String> {
        let outputs = self.signature.run(&mut self.session.borrow_mut(), inputs);
        outputs.map_err(|status| format!("cannot be predicted: {}", status.message()))
    }
}
