//! Inference: the Open Inference Protocol v2 over gRPC, run by ONNX Runtime.

pub mod element;
pub mod model;
pub mod runtime;
pub mod service;
pub mod store;
pub mod tensors;

/// The protocol's messages, client and server, generated from `proto/open_inference.proto`.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("inference");
}
