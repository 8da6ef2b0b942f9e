//! Components: checked against `wit/` before they run, their code shared by all functions that have it.

use std::path::Path;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::InstancePre;
use wasmtime::component::types::{self, ComponentItem};

use super::cache::{compile, deserialize};
use super::candidate::as_released;
use super::{EventFunction, Guest, HttpFunction, Sandbox, sha256_hex};
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

/// A component's machine code, linked to what this host offers. All functions that have the component share it.
pub struct Code {
    /// The SHA-256 of the component's bytes, in hex: the version of the function.
    pub digest: String,
    /// The interfaces it imports, of the WASI ones those that need a grant.
    pub imports: Vec<String>,
    /// The interfaces of other hosts that this one does not offer: calling one traps.
    pub stubs: Vec<String>,
    kind: Kind,
    pre: InstancePre<Guest>,
}

/// A function's component: its code, and instances of its own.
#[derive(Clone)]
pub struct Component {
    /// What it shares with other functions.
    pub code: Arc<Code>,
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

impl Code {
    /// The code of a component; compiled, or taken from the cache in `folder`, unless a function has it already.
    pub fn load(sandbox: &Sandbox, bytes: &[u8], folder: Option<&Path>) -> Result<Arc<Self>, ComponentError> {
        sandbox.code(&sha256_hex(bytes), |digest| {
            compile(sandbox, &as_released(bytes), digest, folder)
        })
    }

    /// The same, of machine code in a file that nobody but the operator writes.
    pub fn packaged(sandbox: &Sandbox, digest: &str, file: &Path) -> Result<Arc<Self>, ComponentError> {
        let unfit = |error: wasmtime::Error| {
            ComponentError::Invalid(format!(
                "the machine code `{}` is of no use here: {error:#}",
                file.display()
            ))
        };
        sandbox.code(digest, |_| deserialize(sandbox.engine(), file).map_err(unfit))
    }

    /// Links a compiled component.
    pub(super) fn link(
        sandbox: &Sandbox,
        compiled: &wasmtime::component::Component,
        digest: &str,
    ) -> Result<Self, ComponentError> {
        let engine = sandbox.engine();
        let kind = kind_of(&compiled.component_type(), engine)?;
        let imports = compiled
            .component_type()
            .imports(engine)
            .map(|(name, _)| name.to_owned())
            .filter(|name| !name.starts_with("wasi:") || name.starts_with("wasi:keyvalue/"))
            .collect();
        let mut linker = sandbox.linker().clone();
        let stubs = add_stubs(&mut linker, compiled).map_err(unlinked)?;
        Ok(Self {
            digest: digest.to_owned(),
            imports,
            stubs,
            kind,
            pre: linker.instantiate_pre(compiled).map_err(unlinked)?,
        })
    }
}

impl Component {
    /// A component with that code, and with no instances yet.
    pub fn of(code: Arc<Code>) -> Result<Self, ComponentError> {
        let pre = code.pre.clone();
        let program = match code.kind {
            Kind::Event => EventFunction::single(pre).map(|function| Program::Event(Arc::new(function))),
            Kind::Batch => EventFunction::batch(pre).map(|function| Program::Event(Arc::new(function))),
            Kind::Http => HttpFunction::new(pre).map(|function| Program::Http(Arc::new(function))),
        };
        let program = program.map_err(unlinked)?;
        Ok(Self { code, program })
    }
}

fn unlinked(error: wasmtime::Error) -> ComponentError {
    ComponentError::Import(format!("{error:#}"))
}

/// How a component is called, by what it exports.
fn kind_of(component: &types::Component, engine: &Engine) -> Result<Kind, ComponentError> {
    let names: Vec<&str> = component.exports(engine).map(|(name, _)| name).collect();
    let has_function = |wanted: &str| {
        component
            .exports(engine)
            .any(|(name, item)| name == wanted && matches!(item.ty, ComponentItem::ComponentFunc(_)))
    };
    let is_http = names.iter().any(|name| {
        name.starts_with("wasi:http/handler@0.3") || name.starts_with("wasi:http/incoming-handler@0.2")
    });
    match (has_function("handle"), has_function("handle-batch"), is_http) {
        (true, false, _) => Ok(Kind::Event),
        (false, true, _) => Ok(Kind::Batch),
        (false, false, true) => Ok(Kind::Http),
        _ => Err(ComponentError::Export {
            found: if names.is_empty() {
                "nothing".into()
            } else {
                names.join(", ")
            },
        }),
    }
}
