//! What the integration tests share: a small data set, a small model, waiting for a run to end, the command
//! line, certificates, clients of the field, and who looks on.
//!
//! The tests themselves are one binary, `tests/it`, so that they link once.

mod authority;
pub mod clients;
mod command;
mod data;
pub mod observers;
mod scene;

pub use authority::Authority;
pub use command::{complains, says};
pub use data::{Flavour, interactions, tabular_csv, tabular_parquet};
pub use scene::{Scene, WITNESS, settled_run};
