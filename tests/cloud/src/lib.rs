//! The services of a cloud on this machine: SeaweedFS for S3, DynamoDB Local, and moto for SQS.

mod process;
mod servers;

pub use servers::Servers;
