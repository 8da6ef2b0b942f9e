//! The services of a cloud on this machine: SeaweedFS for S3, DynamoDB Local, and moto for SQS.

mod process;
mod proxy;
mod servers;

pub use proxy::{Lost, Weather};
pub use servers::{Servers, Ways};
