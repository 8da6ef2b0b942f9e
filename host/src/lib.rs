//! Tidegate's host: the whole platform in one process, with its faces to the outside.
//!
//! - [`cli`]: the command line; `up` runs the host, the other commands talk to a running one.
//! - [`config`]: what an operator may set, with every bound and its default.
//! - [`host`]: puts the parts together, and takes them apart in order when it drains.
//! - [`lambda`]: the same parts as a Lambda function; [`package`]: what is uploaded for it.
//! - [`store`]: the store that the configuration names; [`backup`]: all of it in one file, and back.
//! - [`server`] and [`tls`]: one port that speaks TLS and plain HTTP.
//! - [`api`]: the faces: functions' routes, `/api/v1`, `/worker/v1`, S3, metrics.
//! - [`worker`], [`inference`]: the worker process, and models answered by it.
//! - [`models`]: models that somebody brings along: looked at, and registered.
//! - [`notices`]: what S3 tells of buckets of others.
//! - [`recorder`]: requests and responses of functions that ask for it, kept as objects.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod api;
pub mod backup;
pub mod cli;
pub mod config;
pub mod host;
pub mod inference;
pub mod lambda;
pub mod models;
pub mod notices;
pub mod package;
pub mod recorder;
pub mod server;
pub mod store;
pub mod tls;
pub mod watch;
pub mod worker;
