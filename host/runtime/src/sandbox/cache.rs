//! The cache of compiled components, by digest and engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{ComponentError, Sandbox};

/// Compiles a component, or takes it from the cache in `folder`.
pub(super) fn compile(
    sandbox: &Sandbox,
    bytes: &[u8],
    digest: &str,
    folder: Option<&Path>,
) -> Result<wasmtime::component::Component, ComponentError> {
    let engine = sandbox.engine();
    let invalid = |error: wasmtime::Error| ComponentError::Invalid(format!("{error:#}"));
    let Some(folder) = folder else {
        return wasmtime::component::Component::new(engine, bytes).map_err(invalid);
    };
    let kept = artefact(engine, digest, folder);
    if let Some(component) = load_kept(engine, &kept) {
        return Ok(component);
    }
    let component = wasmtime::component::Component::new(engine, bytes).map_err(invalid)?;
    let artefact = component.serialize().map_err(invalid)?;
    if let Err(error) = keep(&kept, &artefact) {
        tracing::warn!(file = %kept.display(), %error, "the compiled component is not cached");
    }
    Ok(component)
}

/// The key holds the component's digest and everything of the engine that the machine code depends on.
fn artefact(engine: &wasmtime::Engine, digest: &str, folder: &Path) -> PathBuf {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    folder.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
}

fn load_kept(engine: &wasmtime::Engine, file: &Path) -> Option<wasmtime::component::Component> {
    if !file.exists() {
        return None;
    }
    deserialize(engine, file)
        .inspect_err(|error| tracing::warn!(file = %file.display(), %error, "cached component is unusable"))
        .ok()
}

pub(super) fn deserialize(
    engine: &wasmtime::Engine,
    file: &Path,
) -> wasmtime::Result<wasmtime::component::Component> {
    // SAFETY: the folder of the cache is written by this host alone (mode 0700), each file by rename after it was
    // complete; that of a package by whoever installed the host beside it. The engine refuses artefacts of another
    // configuration or version, or for features that this processor lacks.
    #[allow(unsafe_code)]
    unsafe {
        wasmtime::component::Component::deserialize_file(engine, file)
    }
}

fn keep(file: &Path, artefact: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    create_private(folder)?;
    let partial = file.with_extension(format!("partial-{}", std::process::id()));
    std::fs::write(&partial, artefact)?;
    std::fs::rename(partial, file)
}

/// Removes the machine code of components from a folder, whichever engine it is for.
pub(crate) fn forget_code(folder: &Path, digests: &BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let digest = name.to_str().and_then(|name| Some(name.split_once('-')?.0));
        if digest.is_some_and(|digest| digests.contains(digest)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}
