//! The guest SDK: a Tidegate function as ordinary async Rust.
//!
//! ```ignore
//! use tidegate_sdk::prelude::*;
//!
//! tidegate_sdk::function!(handle);
//!
//! async fn handle(event: Event) -> Result<(), Failure> {
//!     let created: ObjectCreated = event.json()?;
//!     let object = objects::open(&created.bucket, &created.key).await?;
//!     log::info!("`{}` holds {} bytes", created.key, object.size());
//!     events::emit("Measured", &serde_json::json!({ "size": object.size() }))?;
//!     Ok(())
//! }
//! ```
//!
//! A function that is quicker with many events at once, for one write of a file or one call of a model, takes them
//! together: `tidegate_sdk::batch_function!(handle)` with `async fn handle(events: Vec<Event>)`. Either all of a batch
//! commits or nothing; a batch that fails is halved, so that one bad event does not hold up the others.
//!
//! Every module stands for one interface of the contract in `wit/` and is imported by a component only when
//! the component calls it. A component that exports something else, for example `wasi:http`, uses the same
//! modules and leaves [`function!`] and [`batch_function!`] out.
//!
//! Reads, listings, inference and object writes are async. Whatever changes the world (state, events, jobs,
//! online features, finished objects) is staged by the host and commits when the function returns `Ok`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod blocking;
pub mod config;
pub mod events;
mod failure;
pub mod features;
pub mod inference;
pub mod jobs;
pub mod log;
pub mod objects;
pub mod prelude;
#[cfg(feature = "search")]
pub mod search;
pub mod state;

pub use bindings::tidegate::function::types::{Error, Event, Failure, Retry};
pub use events::ObjectCreated;
pub use failure::OrReject;
pub use serde_json;

/// What `wit-bindgen` makes of the contract. Functions use the modules above instead.
#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "function",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "tidegate_sdk::bindings",
        generate_all,
    });
}

/// The same for functions that take a batch, with the types and imports of the others.
#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod batch_bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "batch-function",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "tidegate_sdk::batch_bindings",
        with: {
            "tidegate:function/types@0.1.0": crate::bindings::tidegate::function::types,
            "tidegate:function/objects@0.1.0": crate::bindings::tidegate::function::objects,
            "tidegate:function/state@0.1.0": crate::bindings::tidegate::function::state,
            "tidegate:function/events@0.1.0": crate::bindings::tidegate::function::events,
            "tidegate:function/jobs@0.1.0": crate::bindings::tidegate::function::jobs,
            "tidegate:function/inference@0.1.0": crate::bindings::tidegate::function::inference,
            "tidegate:function/features@0.1.0": crate::bindings::tidegate::function::features,
            "tidegate:function/config@0.1.0": crate::bindings::tidegate::function::config,
            "tidegate:function/log@0.1.0": crate::bindings::tidegate::function::log,
        },
    });
}

/// Exports an `async fn(Event) -> Result<(), Failure>` as the component's `handle`.
///
/// Compiled for anything but WebAssembly it exports a plain function instead, so that a function's crate can be
/// tested natively.
#[macro_export]
macro_rules! function {
    ($handle:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;

            impl $crate::bindings::Guest for Exported {
                async fn handle(event: $crate::Event) -> ::core::result::Result<(), $crate::Failure> {
                    $handle(event).await
                }
            }

    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };

        /// Handles one event.
        #[cfg(not(target_family = "wasm"))]
        pub async fn handle_natively(event: $crate::Event) -> ::core::result::Result<(), $crate::Failure> {
            $handle(event).await
        }
    };
}

/// Exports an `async fn(Vec<Event>) -> Result<(), Failure>` as the component's `handle-batch`.
///
/// Compiled for anything but WebAssembly it exports a plain function instead, as [`function!`] does.
#[macro_export]
macro_rules! batch_function {
    ($handle:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;

            impl $crate::batch_bindings::Guest for Exported {
                async fn handle_batch(
                    events: ::std::vec::Vec<$crate::Event>,
                ) -> ::core::result::Result<(), $crate::Failure> {
                    $handle(events).await
                }
            }

    $crate::batch_bindings::export!(Exported with_types_in $crate::batch_bindings);
        };

        /// Handles a batch.
        #[cfg(not(target_family = "wasm"))]
        pub async fn handle_natively(
            events: ::std::vec::Vec<$crate::Event>,
        ) -> ::core::result::Result<(), $crate::Failure> {
            $handle(events).await
        }
    };
}
