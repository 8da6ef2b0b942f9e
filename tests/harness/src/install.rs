//! Where the built programs and functions lie.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The built host and functions that a test or the demo runs.
#[derive(Debug, Clone)]
pub struct Install {
    /// The executable `tidegate`; its worker lies beside it.
    pub tidegate: PathBuf,
    /// The folder with the functions' components.
    pub functions: PathBuf,
}

impl Install {
    /// Finds them: by `TIDEGATE_BIN` and `TIDEGATE_FUNCTIONS`, else near this very executable.
    pub fn find() -> Result<Self> {
        let tidegate = match std::env::var_os("TIDEGATE_BIN") {
            Some(given) => PathBuf::from(given),
            None => beside_this_executable()?,
        };
        if !tidegate.is_file() {
            bail!(
                "`{}` is not there; `cargo xtask test` and `cargo xtask demo` build it",
                tidegate.display()
            );
        }
        let functions = match std::env::var_os("TIDEGATE_FUNCTIONS") {
            Some(given) => PathBuf::from(given),
            None => tidegate
                .ancestors()
                .nth(2)
                .unwrap_or(Path::new("/"))
                .join("functions"),
        };
        if !functions.is_dir() {
            bail!(
                "`{}` is not there; `cargo xtask functions` makes it",
                functions.display()
            );
        }
        Ok(Self { tidegate, functions })
    }

    /// The path of one component.
    pub fn component(&self, file: &str) -> PathBuf {
        self.functions.join(file)
    }
}

/// The folder of this checkout.
pub fn workspace_root() -> PathBuf {
    // Two folders up from `tests/harness`; a crate's own manifest always has that many ancestors here.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("/"))
        .to_path_buf()
}

/// The folder with data that is not the product's own, where this checkout has one.
pub fn shared_folder() -> Option<PathBuf> {
    let given = std::env::var_os("TIDEGATE_SHARED").map(PathBuf::from);
    given
        .or_else(|| Some(workspace_root().parent()?.join("shared")))
        .filter(|folder| folder.is_dir())
}

fn beside_this_executable() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this executable lies")?;
    let found = this
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("tidegate"))
        .find(|file| file.is_file());
    found.with_context(|| {
        format!(
            "no `tidegate` near `{}`; `cargo xtask test` builds it",
            this.display()
        )
    })
}
