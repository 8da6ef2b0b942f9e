//! Runs the real `tidegate` from outside, as its users do: a process on free ports, an S3 client, HTTPS.
//!
//! The demo, the integration tests and the benchmarks all go through here.

mod api;
mod compiled;
mod follow;
mod host;
mod install;
mod manifest;
mod notice;
mod s3;
mod wait;

pub use api::Api;
pub use follow::Follower;
pub use host::{Host, Options, Ready};
pub use install::{Install, shared_folder, workspace_root};
pub use manifest::Manifest;
pub use notice::{Notice, Run, Step, Usage};
pub use s3::Bucket;
pub use wait::until;
