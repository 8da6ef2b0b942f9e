//! The folder of one attempt: what the program is told, its inputs, what an earlier attempt left, and what it makes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::config::CommandConfig;
use crate::jobs::session::{JobError, Session};
use crate::train::fields::Location;
use crate::train::{MODEL, uploaded};

/// The folder of what the program keeps for a later attempt.
const CHECKPOINT: &str = "checkpoint";
/// The file of what it said before its last checkpoint.
const HISTORY: &str = "history.json";
/// Files that a program may leave.
const MOST_FILES: usize = 1000;
/// Bytes of a file that it leaves, and of its checkpoints together.
const MOST_BYTES: u64 = 1 << 30;

/// The folder, removed at the end.
pub(super) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Puts everything there that the program may want.
    pub(super) fn make(config: &CommandConfig, session: &dyn Session) -> Result<Self, JobError> {
        let folder = tempfile::Builder::new().prefix("tidegate-job-").tempdir();
        let scratch = Self {
            folder: folder.map_err(local)?,
        };
        for folder in [scratch.inputs(), scratch.outputs(), scratch.checkpoint()] {
            fs::create_dir(folder).map_err(local)?;
        }
        let mut inputs = BTreeMap::new();
        for (name, (bucket, key)) in &config.inputs {
            let path = scratch.inputs().join(name);
            let mut file = File::create(&path).map_err(local)?;
            std::io::copy(&mut session.download(bucket, key)?, &mut file).map_err(local)?;
            inputs.insert(name, path);
        }
        scratch.load_checkpoint(session)?;
        let job = json!({
            "model": config.model, "parameters": config.parameters, "inputs": inputs,
            "outputs": scratch.outputs(), "checkpoint": scratch.checkpoint(),
        });
        fs::write(scratch.job(), job.to_string()).map_err(local)?;
        Ok(scratch)
    }

    /// Where the program runs.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file that tells it its job.
    pub(super) fn job(&self) -> PathBuf {
        self.folder().join("job.json")
    }

    fn inputs(&self) -> PathBuf {
        self.folder().join("inputs")
    }

    fn outputs(&self) -> PathBuf {
        self.folder().join("outputs")
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder().join(CHECKPOINT)
    }

    /// What was said before the last checkpoint of an earlier attempt; nothing in a first one.
    pub(super) fn history<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&fs::read(self.folder().join(HISTORY)).ok()?).ok()
    }

    /// What an earlier attempt left; where it cannot be read, the program begins anew.
    fn load_checkpoint(&self, session: &dyn Session) -> Result<(), JobError> {
        let Some(left) = session.load_checkpoint()? else {
            return Ok(());
        };
        if let Err(error) = tar::Archive::new(left.as_ref()).unpack(self.folder()) {
            tracing::warn!("the program begins anew, as its checkpoint cannot be read: {error}");
            fs::remove_dir_all(self.checkpoint()).map_err(local)?;
            fs::create_dir(self.checkpoint()).map_err(local)?;
            fs::write(self.folder().join(HISTORY), "").map_err(local)?;
        }
        Ok(())
    }

    /// Keeps the folder of checkpoints for a later attempt, and what was said so far. Without them only that attempt would
    /// miss something.
    pub(super) fn save_checkpoint(
        &self,
        history: &impl Serialize,
        session: &dyn Session,
    ) -> Result<(), JobError> {
        let packed = self.packed(history);
        let saved = packed.and_then(|content| session.save_checkpoint(content.into()));
        match saved {
            Err(JobError::Invalid(reason) | JobError::Transient(reason)) => {
                tracing::warn!("the program goes on without a checkpoint: {reason}");
                Ok(())
            }
            other => other,
        }
    }

    /// Both in one archive, as they lie in the folder.
    fn packed(&self, history: &impl Serialize) -> Result<Vec<u8>, JobError> {
        let files = files(&self.checkpoint())?;
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        if bytes > MOST_BYTES {
            return Err(JobError::Invalid(format!(
                "the program left checkpoints of {bytes} bytes, allowed are {MOST_BYTES}"
            )));
        }
        let mut archive = tar::Builder::new(Vec::new());
        let said = serde_json::to_vec(history).map_err(|error| local(error.into()))?;
        append(&mut archive, HISTORY, &said)?;
        for (name, _) in files {
            // The program goes on meanwhile: what it has renamed is there by its new name.
            match fs::read(self.checkpoint().join(&name)) {
                Ok(content) => append(&mut archive, &format!("{CHECKPOINT}/{name}"), &content)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(local(error)),
            }
        }
        archive.into_inner().map_err(local)
    }

    /// Uploads what the program left; the model among it, and all files.
    pub(super) fn upload(
        &self,
        output: &Location,
        session: &dyn Session,
    ) -> Result<(Option<Value>, Vec<Value>), JobError> {
        let (mut model, mut files) = (None, Vec::new());
        for name in left(&self.outputs())? {
            let content = fs::read(self.outputs().join(&name)).map_err(local)?;
            let file = uploaded(session, output, &name, content)?;
            if name == MODEL {
                model = Some(file.clone());
            }
            files.push(file);
        }
        Ok((model, files))
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) -> Result<(), JobError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, path, content).map_err(local)
}

/// The names of the files that a program left, in their order.
fn left(folder: &Path) -> Result<Vec<String>, JobError> {
    let mut files = files(folder)?;
    if files.len() > MOST_FILES {
        let found = files.len();
        return Err(JobError::Invalid(format!(
            "the program left {found} files, allowed are {MOST_FILES}"
        )));
    }
    if let Some((name, bytes)) = files.iter().find(|(_, bytes)| *bytes > MOST_BYTES) {
        return Err(JobError::Invalid(format!(
            "the program left `{name}` of {bytes} bytes, allowed are {MOST_BYTES}"
        )));
    }
    files.sort();
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// The files in a folder, with their bytes. Folders within it are refused rather than left out unseen.
fn files(folder: &Path) -> Result<Vec<(String, u64)>, JobError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(local)? {
        let entry = entry.map_err(local)?;
        let name = entry.file_name();
        let kind = match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found.map_err(local)?,
        };
        match name.to_str() {
            Some(name) if kind.is_file() => files.push((name.to_owned(), kind.len())),
            _ => {
                return Err(JobError::Invalid(format!(
                    "the program left {name:?}, allowed are files with names in UTF-8"
                )));
            }
        }
    }
    Ok(files)
}

fn local(error: std::io::Error) -> JobError {
    JobError::Transient(format!("the worker's own files: {error}"))
}
