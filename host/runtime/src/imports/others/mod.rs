//! The host's half of `host/runtime/wit/`: what components import that were written for other hosts.
//!
//! A store of keys and values is a table of state, `default` where the component names none, with the same grants and
//! the same staged effects. Variables and configuration are the function's variables and granted secrets, Redis
//! is where the manifest says. Whatever
//! else such a component imports is a stub that traps and says what was called.

mod key_value;
mod keyvalue;
mod redis;
mod stubs;
mod table;
mod variables;

pub use stubs::add_stubs;

use wasmtime::component::Linker;

use super::{Error, Imports};
use crate::sandbox::Guest;

/// The types and traits that `host/runtime/wit/` becomes.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "tidegate:others/others",
        imports: { default: async | trappable },
        with: {
            "fermyon:spin/key-value.store": super::table::Table,
            "spin:key-value/key-value.store": super::table::Table,
            "fermyon:spin/redis.connection": super::redis::Connection,
            "spin:redis/redis.connection": super::redis::Connection,
            "wasi:keyvalue/store.bucket": super::table::Table,
            "wasi:keyvalue/atomics.cas": super::keyvalue::Swap,
        },
    });
}

/// Adds every interface of `host/runtime/wit/` to the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    bindings::Others::add_to_linker::<_, Imports>(linker, |guest| guest)
}

/// What an error says, without its kind.
fn reason(error: Error) -> String {
    match error {
        Error::Denied(reason)
        | Error::NotFound(reason)
        | Error::Invalid(reason)
        | Error::Limit(reason)
        | Error::Unavailable(reason) => reason,
    }
}
