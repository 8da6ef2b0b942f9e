//! Components: compiled once, kept by digest and engine, checked against `wit/` before they run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::types::ComponentItem;

use super::candidate::as_released;
use super::{EventFunction, HttpFunction, Sandbox, sha256_hex};
use crate::imports::add_stubs;

/// What a component exports, and so how it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `handle`, one event at a time.
    Event,
    /// `handle-batch`, several events together.
    Batch,
    /// `wasi:http` 0.2 or 0.3.
    Http,
}

/// A compiled component.
#[derive(Clone)]
pub struct Component {
    /// The SHA-256 of the component's bytes, in hex: the version of the function.
    pub digest: String,
    /// The interfaces it imports, of the WASI ones those that need a grant.
    pub imports: Vec<String>,
    /// The interfaces of other hosts that this one does not offer: calling one traps.
    pub stubs: Vec<String>,
    /// How it is called.
    pub program: Program,
}

/// A component, ready to be instantiated.
#[derive(Clone)]
pub enum Program {
    /// Handles events.
    Event(Arc<EventFunction>),
    /// Handles requests.
    Http(Arc<HttpFunction>),
}

impl Program {
    /// How it is called.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Event(function) => function.kind(),
            Self::Http(_) => Kind::Http,
        }
    }
}

/// Why a component cannot be a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// It is not a component.
    #[error("not a WebAssembly component: {0}")]
    Invalid(String),
    /// It exports nothing that the host calls.
    #[error(
        "exports {found}, expected one of `handle` of world `tidegate:function/function`, `handle-batch` of world \
         `tidegate:function/batch-function`, `wasi:http/handler@0.3`, `wasi:http/incoming-handler@0.2`"
    )]
    Export {
        /// What it exports.
        found: String,
    },
    /// It wants something that this host does not offer.
    #[error("{0}")]
    Import(String),
}

impl Component {
    /// Compiles (or takes from the cache in `folder`) and links a component.
    pub fn load(sandbox: &Sandbox, bytes: &[u8], folder: Option<&Path>) -> Result<Self, ComponentError> {
        let digest = sha256_hex(bytes);
        let compiled = compile(sandbox, &as_released(bytes), &digest, folder)?;
        Self::linked(sandbox, &compiled, digest)
    }

    /// Links a component of which there is machine code in a file that nobody but the operator writes.
    pub fn packaged(sandbox: &Sandbox, digest: &str, file: &Path) -> Result<Self, ComponentError> {
        let unfit = |error: wasmtime::Error| {
            ComponentError::Invalid(format!(
                "the machine code `{}` is of no use here: {error:#}",
                file.display()
            ))
        };
        let compiled = deserialize(sandbox.engine(), file).map_err(unfit)?;
        Self::linked(sandbox, &compiled, digest.to_owned())
    }

    fn linked(
        sandbox: &Sandbox,
        compiled: &wasmtime::component::Component,
        digest: String,
    ) -> Result<Self, ComponentError> {
        let engine = sandbox.engine();
        let kind = compiled.component_type();
        let exports: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let imports = kind
            .imports(engine)
            .map(|(name, _)| name.to_owned())
            .filter(|name| !name.starts_with("wasi:") || name.starts_with("wasi:keyvalue/"))
            .collect();
        let wrong_export = || ComponentError::Export {
            found: if exports.is_empty() {
                "nothing".into()
            } else {
                exports.join(", ")
            },
        };
        let has_function = |wanted: &str| {
            kind.exports(engine)
                .any(|(name, item)| name == wanted && matches!(item.ty, ComponentItem::ComponentFunc(_)))
        };
        let is_http = exports.iter().any(|name| {
            name.starts_with("wasi:http/handler@0.3") || name.starts_with("wasi:http/incoming-handler@0.2")
        });
        let link = |error: wasmtime::Error| ComponentError::Import(format!("{error:#}"));
        let mut linker = sandbox.linker().clone();
        let stubs = add_stubs(&mut linker, compiled).map_err(link)?;
        let pre = linker.instantiate_pre(compiled).map_err(link)?;
        let program = match (has_function("handle"), has_function("handle-batch"), is_http) {
            (true, false, _) => Program::Event(Arc::new(EventFunction::single(pre).map_err(link)?)),
            (false, true, _) => Program::Event(Arc::new(EventFunction::batch(pre).map_err(link)?)),
            (false, false, true) => Program::Http(Arc::new(HttpFunction::new(pre).map_err(link)?)),
            _ => return Err(wrong_export()),
        };
        Ok(Self {
            digest,
            imports,
            stubs,
            program,
        })
    }
}

fn compile(
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

fn deserialize(engine: &wasmtime::Engine, file: &Path) -> wasmtime::Result<wasmtime::component::Component> {
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
