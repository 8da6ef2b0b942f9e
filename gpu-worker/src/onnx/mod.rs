//! Trained models as ONNX files, written by hand: a few nodes and their constants.

pub mod graph;
pub mod proto;
pub mod ranker;
pub mod tabular;
pub mod trees;

#[cfg(test)]
mod tests;
