//! Trained models as ONNX files: a few nodes and their constants; and anybody's with INT8 weights.

pub mod graph;
pub mod quantised;
pub mod ranker;
pub mod tabular;
pub mod trees;

/// The format's messages, generated from `proto/onnx-ml.proto`, which is the one of ONNX 1.23: whole, so that what is
/// read of somebody else's file is written again.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("onnx");

    pub use attribute_proto::AttributeType;
    pub use tensor_proto::DataType;
}

#[cfg(test)]
mod tests;
