//! Evaluation: how good a trained model is on the test split, and what becomes of it.
//!
//! - [`messages`]: the events of this step.
//! - [`scoring`]: the test split in pairs of user and item, and the metrics of their scores.
//! - [`registration`]: the record of the new version and the aliases that move.

pub mod messages;
pub mod registration;
pub mod scoring;
