//! Where build outputs go: outside the clone, so that a fresh clone need not build everything again.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// The folders that builds write to.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Cargo's target folder for everything native.
    pub target: PathBuf,
    /// Cargo's target folder for the functions; apart, as another compiler may build them.
    pub guests: PathBuf,
    /// What the set-up fetched.
    pub cache: PathBuf,
}

impl Folders {
    /// Finds the folders from the environment.
    pub fn find() -> Result<Self> {
        let cache = cache_root()?.join("tidegate");
        let (target, guests) = match non_empty("TIDEGATE_TARGET_DIR") {
            Some(given) => {
                let target = std::path::absolute(given).context("`TIDEGATE_TARGET_DIR` is no usable path")?;
                let guests = target.join("guests");
                (target, guests)
            }
            None => (cache.join("target"), cache.join("guests")),
        };
        for folder in [&cache, &target, &guests] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        Ok(Self {
            target,
            guests,
            cache,
        })
    }

    /// Where built executables lie.
    pub fn binaries(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Where executables lie as they are shipped.
    pub fn released(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Where built functions are gathered, one `.wasm` file each.
    pub fn functions(&self) -> PathBuf {
        self.target.join("functions")
    }

    /// Lets cargo build a checkout's sources anew where the folders were last used by another checkout. Cargo knows what
    /// has changed by the times of files alone, and would keep what the other one's sources came to.
    pub fn belong_to(&self, root: &Path) -> Result<()> {
        let note = self.target.join("checkout");
        let here = root.display().to_string();
        if std::fs::read_to_string(&note).is_ok_and(|last| last == here) {
            return Ok(());
        }
        let now = SystemTime::now();
        renew(root, now).with_context(|| format!("cannot renew the times of the files in `{here}`"))?;
        std::fs::write(&note, here).with_context(|| format!("cannot write `{}`", note.display()))
    }

    /// Whether nothing was built here yet.
    pub fn is_cold(&self) -> bool {
        !self.binaries().join("tidegate").exists()
    }
}

/// Sets the time of all files in a folder, but for those of hidden folders and of builds.
fn renew(folder: &Path, time: SystemTime) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let skipped = name.as_encoded_bytes().starts_with(b".") || name == "target";
        if kind.is_dir() && !skipped {
            renew(&entry.path(), time)?;
        } else if kind.is_file() {
            std::fs::File::options()
                .append(true)
                .open(entry.path())?
                .set_modified(time)?;
        }
    }
    Ok(())
}

/// An environment variable, unless it is unset or empty.
pub fn non_empty(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn cache_root() -> Result<PathBuf> {
    if let Some(given) = non_empty("XDG_CACHE_HOME").filter(|given| Path::new(given).is_absolute()) {
        return Ok(PathBuf::from(given));
    }
    let home = non_empty("HOME").context("neither `XDG_CACHE_HOME` nor `HOME` is set")?;
    Ok(PathBuf::from(home).join(".cache"))
}
