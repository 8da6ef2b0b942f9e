//! What `demo`, `test` and `bench` build before they start.
//!
//! Every native build selects the whole workspace: cargo resolves features over what is selected, so that a
//! narrower choice here would build the same dependencies a second time.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::functions;
use crate::setup::guest_toolchain::GuestToolchain;
use crate::setup::target_dir::Folders;
use crate::setup::{onnxruntime, tools, workspace_root};

/// What builds and runs need to know of this machine.
#[derive(Debug)]
pub struct Machine {
    /// The folder of this checkout.
    pub root: PathBuf,
    /// Where outputs go.
    pub folders: Folders,
    /// How functions are compiled.
    pub guests: GuestToolchain,
    /// ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    /// Whether cargo must leave the lock file as it is.
    pub locked: bool,
}

impl Machine {
    /// Finds or makes everything a build and a run need.
    pub fn set_up(locked: bool) -> Result<Self> {
        let root = workspace_root()?;
        let folders = Folders::find()?;
        folders.belong_to(&root)?;
        tools::step("looking at this machine", || {
            tools::note(&format!("build outputs: {}", folders.target.display()));
            let guests = GuestToolchain::find(&folders)?;
            tools::note(&format!("functions: {}", guests.describe()));
            let onnxruntime = onnxruntime::find(&folders)?;
            tools::note(&format!("ONNX Runtime: {}", onnxruntime.display()));
            if folders.is_cold() {
                tools::note("nothing is built yet: on two cores the first build takes 20 to 40 minutes");
            }
            Ok(Self {
                root,
                folders,
                guests,
                onnxruntime,
                locked,
            })
        })
    }

    /// A native cargo command on this workspace.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = tools::cargo();
        command
            .arg(subcommand)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.folders.target);
        if self.locked {
            command.arg("--locked");
        }
        command
    }

    /// Gives a command what the host and its worker look for.
    pub fn equip<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("TIDEGATE_BIN", self.folders.binaries().join("tidegate"))
            .env("TIDEGATE_FUNCTIONS", self.folders.functions())
            .env("TIDEGATE_ORT", &self.onnxruntime)
    }

    /// Builds the functions, then the host, the worker and the programs that try them.
    pub fn build(&self) -> Result<()> {
        functions::build(self)?;
        tools::step("building the host and the worker", || {
            tools::run(self.cargo("build").args(["--workspace", "--bins"]))
        })
    }

    /// Builds the host and the worker as containers and packages hold them; `more` goes to cargo.
    pub fn release(&self, more: &[&str]) -> Result<()> {
        const WHAT: [&str; 5] = ["--package", "tidegate", "--package", "tidegate-worker", "--bins"];
        tools::step("building the host and the worker as they are shipped", || {
            if !self.folders.released().join("tidegate").exists() {
                tools::note("every crate is built anew, for speed: on two cores that takes 40 to 60 minutes");
            }
            tools::run(self.cargo("build").arg("--release").args(WHAT).args(more))
        })
    }
}
