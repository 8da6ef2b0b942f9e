//! The sandbox: a component, an event, and nothing else but what the manifest grants.

mod cache;
mod candidate;
mod component;
mod engine;
mod guest;
mod http;
mod identity;
mod instances;
mod invoke;
mod meter;
mod outbound;
mod portable;
mod printed;

pub(crate) use cache::forget_code;
pub use component::{Code, Component, ComponentError, Kind, Program};
pub use engine::{Pool, Sandbox};
pub use guest::{Call, Guest, Input};
pub use http::{Answered, Body, HttpFunction};
pub use identity::{batch_id, derived_id};
pub use invoke::{EventFunction, Failure, Outcome, Sandboxed, Usage};
pub(crate) use outbound::resolve;
pub use portable::portable_code;

/// A digest as it is written everywhere: lower-case hex of the SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
