//! Features: from interactions in time order to a training set, and to what `rank` needs to compute the same
//! features for a request.
//!
//! - [`UserState`], [`ItemState`]: what is remembered.
//! - [`user_vector`], [`item_vector`]: what the model sees of it, offline and online.
//! - [`Categories`]: which slot a category has.
//! - [`Engine`]: the strictly point-in-time pass over the rows.
//! - [`Build`]: the pass over a whole dataset, split 70/15/15 by time.
//! - [`training`]: the training set's files.

mod build;
mod categories;
mod engine;
mod state;
pub mod training;
mod vector;

#[cfg(test)]
mod tests;

pub use build::{Build, BuildError, Built, Part, Sinks, partitions};
pub use categories::Categories;
pub use engine::{Engine, Example, NEWCOMER, Row};
pub use state::{ItemState, UserState};
pub use vector::{
    Context, Device, ITEM_FEATURES, ItemVector, USER_FEATURES, UserVector, item_feature_names, item_vector,
    user_feature_names, user_vector,
};

/// Slots for categories.
pub const CATEGORIES: usize = 24;

/// What decides the features' values.
const SOURCES: [&str; 4] = [
    include_str!("categories.rs"),
    include_str!("engine.rs"),
    include_str!("state.rs"),
    include_str!("vector.rs"),
];

/// SHA-256 of the source of the code that computes features: it changes whenever their meaning may have.
pub fn code_digest() -> String {
    crate::digest::sha256_hex(SOURCES.concat().as_bytes())
}
