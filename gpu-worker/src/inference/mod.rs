//! Inference: the Open Inference Protocol v2 over gRPC, run by ONNX Runtime.

pub mod batch;
pub mod budget;
pub mod element;
pub mod incoming;
pub mod model;
pub mod padding;
pub mod provider;
pub mod queue;
pub mod runtime;
pub mod service;
pub mod sessions;
pub mod signature;
pub mod statistics;
pub mod store;
pub mod tensors;

/// The protocol's messages, client and server, generated from `proto/open_inference.proto`.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("inference");
}

#[cfg(test)]
mod tests;
