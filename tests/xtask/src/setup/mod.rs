//! What every subcommand needs before it can start: folders, tools, the guest toolchain, ONNX Runtime, and what tests look on with.

pub mod clients;
pub mod cloud;
pub mod guest_toolchain;
pub mod infra;
pub mod observers;
pub mod onnxruntime;
pub mod programs;
pub mod target_dir;
pub mod terraform;
pub mod tools;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of this checkout.
pub fn workspace_root() -> Result<PathBuf> {
    // As cargo says it now: a target folder may have kept what another checkout built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run it as `cargo xtask`")?;
    Path::new(&here)
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .context("`tests/xtask` no longer lies two folders deep")
}
