//! Tidegate's runtime: events in, sandboxed steps, effects out, committed exactly once.
//!
//! In the order of an event's way: a [`trigger`] puts an [`event`] into a durable queue; [`dispatch`] claims
//! it and runs the function in the [`sandbox`], whose [`imports`] read the [`store`] and stage [`effects`];
//! one atomic unit commits them, and [`records`] with them. The runtime knows nothing of machine learning:
//! long work goes to workers as [`jobs`], models answer behind [`inference`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod clock;
pub mod deploy;
pub mod dispatch;
pub mod effects;
pub mod event;
mod foreground;
pub mod imports;
pub mod inference;
pub mod jobs;
pub mod manifest;
pub mod metrics;
pub mod platform;
pub mod records;
pub mod sandbox;
pub mod services;
pub mod store;
pub mod trigger;
pub mod world;

pub use platform::{
    Accepted, AliasError, DeployError, EmitError, Platform, PlatformConfig, Routed, Traffic, check,
};
