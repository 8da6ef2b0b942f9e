//! Where build outputs go: outside the clone, so that a fresh clone need not build everything again.

use std::path::{Path, PathBuf};

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

    /// Where built functions are gathered, one `.wasm` file each.
    pub fn functions(&self) -> PathBuf {
        self.target.join("functions")
    }

    /// Whether nothing was built here yet.
    pub fn is_cold(&self) -> bool {
        !self.binaries().join("tidegate").exists()
    }
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
