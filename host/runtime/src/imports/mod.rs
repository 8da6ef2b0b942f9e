//! The host's half of `wit/`: one file for each interface.
//!
//! An import checks its grant, reads straight from the store, and stages every write in the invocation's
//! [`Effects`](crate::effects::Effects).

mod config;
mod events;
mod features;
mod inference;
mod jobs;
mod log;
mod objects;
mod others;
mod state;

pub use features::{decode_row, encode_row, table_of_view};
pub use objects::{Reader, Writer};
pub use others::add_stubs;

use wasmtime::component::{HasData, Linker};

use crate::sandbox::Guest;

/// The types and traits that `wit/` becomes.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tidegate:function/function",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "tidegate:function/objects.reader": super::Reader,
            "tidegate:function/objects.writer": super::Writer,
        },
    });
}

/// The other world of functions, with the types and imports of the first.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod batch_bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tidegate:function/batch-function",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "tidegate:function/types": super::bindings::tidegate::function::types,
            "tidegate:function/objects": super::bindings::tidegate::function::objects,
            "tidegate:function/state": super::bindings::tidegate::function::state,
            "tidegate:function/events": super::bindings::tidegate::function::events,
            "tidegate:function/jobs": super::bindings::tidegate::function::jobs,
            "tidegate:function/inference": super::bindings::tidegate::function::inference,
            "tidegate:function/features": super::bindings::tidegate::function::features,
            "tidegate:function/config": super::bindings::tidegate::function::config,
            "tidegate:function/log": super::bindings::tidegate::function::log,
        },
    });
}

pub use bindings::tidegate::function::types::Error;

/// Connects the imports to the guest's data.
pub struct Imports;

impl HasData for Imports {
    type Data<'a> = &'a mut Guest;
}

/// Adds every interface of `wit/`, and those of others, to the linker.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use bindings::tidegate::function as face;
    face::types::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::objects::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::state::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::events::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::jobs::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::inference::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::features::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::config::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    face::log::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    others::add_to_linker(linker)
}

impl bindings::tidegate::function::types::Host for Guest {}

impl From<crate::store::StoreError> for Error {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<crate::effects::StageError> for Error {
    fn from(error: crate::effects::StageError) -> Self {
        match error {
            crate::effects::StageError::Limit { .. } => Self::Limit(error.to_string()),
            crate::effects::StageError::Condition(_) => Self::Invalid(error.to_string()),
        }
    }
}

/// Refuses a list that is longer than the interface allows.
fn at_most(what: &str, found: usize, allowed: usize) -> Result<(), Error> {
    if found > allowed {
        return Err(Error::Invalid(format!(
            "found {found} {what}, at most {allowed} are allowed"
        )));
    }
    Ok(())
}

/// Bytes of a key of state and of a name, as of an object's key.
const LONGEST_KEY: usize = 1024;

/// Keys of state and names of tables: not empty, bounded, and free of the byte that separates them.
fn valid_key(key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > LONGEST_KEY || key.contains('\0') {
        return Err(Error::Invalid(format!(
            "found a key of {} bytes, expected 1 to {LONGEST_KEY} bytes without NUL",
            key.len()
        )));
    }
    Ok(())
}
