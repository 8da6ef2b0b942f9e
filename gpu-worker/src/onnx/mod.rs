//! ONNX files: the few messages of the format that are needed, written by hand, and the graph of the ranker.

pub mod graph;
pub mod proto;
pub mod ranker;

#[cfg(test)]
mod tests;
