//! What every subcommand needs before it can start: folders, tools, the guest toolchain, ONNX Runtime, and what tests look on with.

pub mod cloud;
pub mod guest_toolchain;
pub mod observers;
pub mod onnxruntime;
pub mod programs;
pub mod target_dir;
pub mod tools;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The folder of this checkout.
pub fn workspace_root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map(PathBuf::from)
        .context("`tests/xtask` no longer lies two folders deep")
}
