//! The services of a cloud on this machine: SeaweedFS for S3, DynamoDB Local, and moto for SQS.

mod declarer;
mod lambda;
mod outside;
mod process;
mod proxy;
mod servers;
mod terraform;

pub use declarer::Declarer;
pub use lambda::{Answer, Lambda};
pub use outside::Outside;
pub use proxy::{Lost, Weather};
pub use servers::{Servers, Ways};
pub use terraform::Terraform;
