//! Inference as the runtime sees it: a model by name, tensors in, tensors out.

use async_trait::async_trait;
use bytes::Bytes;

/// Element types, as the Open Inference Protocol v2 names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    /// 32-bit float.
    Fp32,
    /// 64-bit float.
    Fp64,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit unsigned integer.
    Uint8,
}

impl Datatype {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
        }
    }

    /// The type of a protocol name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Fp32,
            Self::Fp64,
            Self::Int32,
            Self::Int64,
            Self::Bool,
            Self::Uint8,
        ]
        .into_iter()
        .find(|datatype| datatype.name() == name)
    }

    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Self::Fp64 | Self::Int64 => 8,
            Self::Fp32 | Self::Int32 => 4,
            Self::Bool | Self::Uint8 => 1,
        }
    }
}

/// A tensor: row-major, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The input's or output's name.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The shape.
    pub shape: Vec<u64>,
    /// The elements.
    pub data: Bytes,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// The version that answered.
    pub model_version: String,
    /// The outputs.
    pub outputs: Vec<Tensor>,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferError {
    /// No such model or version.
    #[error("{0}")]
    NotFound(String),
    /// The model does not take these tensors.
    #[error("{0}")]
    Invalid(String),
    /// Nothing can answer now.
    #[error("{0}")]
    Unavailable(String),
}

/// Something that answers inference requests.
#[async_trait]
pub trait Inference: Send + Sync + 'static {
    /// Runs `model`, a reference such as `ranker` or `ranker@candidate`; of versions that share its requests, a key is
    /// always answered by the same one.
    async fn infer(
        &self,
        model: &str,
        key: Option<String>,
        inputs: Vec<Tensor>,
    ) -> Result<InferResponse, InferError>;
}

/// For a host without workers: every model is unavailable.
#[derive(Debug, Clone, Copy)]
pub struct NoInference;

#[async_trait]
impl Inference for NoInference {
    async fn infer(
        &self,
        model: &str,
        _key: Option<String>,
        _inputs: Vec<Tensor>,
    ) -> Result<InferResponse, InferError> {
        Err(InferError::Unavailable(format!(
            "no inference worker is configured to run `{model}`"
        )))
    }
}
