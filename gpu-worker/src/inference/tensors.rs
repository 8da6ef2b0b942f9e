//! Tensors between the protocol and ONNX Runtime, and the checks of what a caller sends.

use bytes::Bytes;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};
use tonic::Status;

use super::proto::InferTensorContents;
use super::proto::model_infer_request::InferInputTensor;

/// An input or output of a model.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// Its shape; -1 where the caller chooses.
    pub shape: Vec<i64>,
    /// Names of the dimensions the caller chooses; those of one name are equal, unless one of them is 1.
    pub symbols: Vec<String>,
}

/// The element types that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// `FP32`.
    Float32,
    /// `FP64`.
    Float64,
    /// `INT32`.
    Int32,
    /// `INT64`.
    Int64,
}

impl Element {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "FP32",
            Self::Float64 => "FP64",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Float32 | Self::Int32 => 4,
            Self::Float64 | Self::Int64 => 8,
        }
    }

    fn of(element: TensorElementType) -> Option<Self> {
        match element {
            TensorElementType::Float32 => Some(Self::Float32),
            TensorElementType::Float64 => Some(Self::Float64),
            TensorElementType::Int32 => Some(Self::Int32),
            TensorElementType::Int64 => Some(Self::Int64),
            _ => None,
        }
    }
}

impl Port {
    /// Reads a model's input or output; the error names what is not served.
    pub fn read(outlet: &Outlet) -> Result<Self, String> {
        let refused = |what: String| {
            format!(
                "`{}` is {what}, served are tensors of FP32, FP64, INT32 and INT64",
                outlet.name()
            )
        };
        let ValueType::Tensor {
            ty,
            shape,
            dimension_symbols,
        } = outlet.dtype()
        else {
            return Err(refused(format!("no tensor but {:?}", outlet.dtype())));
        };
        let element = Element::of(*ty).ok_or_else(|| refused(format!("a tensor of {ty:?}")))?;
        let name = outlet.name().to_owned();
        Ok(Self {
            name,
            element,
            shape: shape.to_vec(),
            symbols: dimension_symbols.to_vec(),
        })
    }

    fn describe(&self) -> String {
        let dims: Vec<String> = self
            .shape
            .iter()
            .zip(&self.symbols)
            .map(|(&size, symbol)| match (size, symbol.as_str()) {
                (0.., _) => size.to_string(),
                (_, "") => "?".to_owned(),
                (_, symbol) => symbol.to_owned(),
            })
            .collect();
        format!("[{}]", dims.join(", "))
    }
}

/// An input as it was sent, checked against its port.
#[derive(Debug)]
pub struct Input<'a> {
    port: &'a Port,
    shape: &'a [i64],
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    Raw(&'a Bytes),
    Typed(&'a InferTensorContents),
}

impl<'a> Input<'a> {
    /// Checks type, shape and size; `raw` is the tensor's entry of `raw_input_contents`, where there are any.
    pub fn check(port: &'a Port, sent: &'a InferInputTensor, raw: Option<&'a Bytes>) -> Result<Self, Status> {
        let bad = |reason: String| Status::invalid_argument(format!("input `{}` {reason}", port.name));
        if sent.datatype != port.element.name() {
            return Err(bad(format!(
                "has datatype `{}`, allowed is `{}`",
                sent.datatype,
                port.element.name()
            )));
        }
        let fits = |(&found, &allowed): (&i64, &i64)| found > 0 && (allowed < 0 || found == allowed);
        if sent.shape.len() != port.shape.len() || !sent.shape.iter().zip(&port.shape).all(fits) {
            return Err(bad(format!(
                "has shape {:?}, allowed is {}",
                sent.shape,
                port.describe()
            )));
        }
        let content = match (raw, &sent.contents) {
            (Some(raw), None) => Content::Raw(raw),
            (None, Some(contents)) => Content::Typed(contents),
            (Some(_), Some(_)) => {
                return Err(bad("has both raw and typed contents, allowed is one".to_owned()));
            }
            (None, None) => return Err(bad("has no contents".to_owned())),
        };
        let input = Self {
            port,
            shape: &sent.shape,
            content,
        };
        let count = sent
            .shape
            .iter()
            .try_fold(1i64, |count, &size| count.checked_mul(size));
        let (found, unit) = input.found();
        let expected = count
            .and_then(|count| usize::try_from(count).ok())
            .and_then(|count| match input.content {
                Content::Raw(_) => count.checked_mul(port.element.size()),
                Content::Typed(_) => Some(count),
            });
        match expected {
            Some(expected) if expected == found => Ok(input),
            _ => Err(bad(format!(
                "of shape {:?} has {found} {unit}, allowed are {}",
                sent.shape,
                expected.map_or_else(
                    || "fewer than overflow a number".to_owned(),
                    |expected| expected.to_string()
                )
            ))),
        }
    }

    fn found(&self) -> (usize, &'static str) {
        match (&self.content, self.port.element) {
            (Content::Raw(bytes), _) => (bytes.len(), "bytes"),
            (Content::Typed(typed), Element::Float32) => (typed.fp32_contents.len(), "fp32_contents"),
            (Content::Typed(typed), Element::Float64) => (typed.fp64_contents.len(), "fp64_contents"),
            (Content::Typed(typed), Element::Int32) => (typed.int_contents.len(), "int_contents"),
            (Content::Typed(typed), Element::Int64) => (typed.int64_contents.len(), "int64_contents"),
        }
    }

    /// Elements in the tensor.
    pub fn elements(&self) -> usize {
        self.shape.iter().product::<i64>().unsigned_abs() as usize
    }

    /// The port's chosen dimensions with their sizes here.
    pub fn symbols(&self) -> impl Iterator<Item = (&'a str, i64)> + '_ {
        let named = self.port.symbols.iter().zip(&self.port.shape).zip(self.shape);
        named
            .filter(|((symbol, allowed), _)| **allowed < 0 && !symbol.is_empty())
            .map(|((s, _), &n)| (s.as_str(), n))
    }

    /// The port's name and the tensor for ONNX Runtime.
    pub fn value(&self) -> ort::Result<(String, SessionInputValue<'static>)> {
        let value: DynValue = match (&self.content, self.port.element) {
            (Content::Raw(raw), Element::Float32) => self.tensor(decode(raw, f32::from_le_bytes))?,
            (Content::Raw(raw), Element::Float64) => self.tensor(decode(raw, f64::from_le_bytes))?,
            (Content::Raw(raw), Element::Int32) => self.tensor(decode(raw, i32::from_le_bytes))?,
            (Content::Raw(raw), Element::Int64) => self.tensor(decode(raw, i64::from_le_bytes))?,
            (Content::Typed(typed), Element::Float32) => self.tensor(typed.fp32_contents.clone())?,
            (Content::Typed(typed), Element::Float64) => self.tensor(typed.fp64_contents.clone())?,
            (Content::Typed(typed), Element::Int32) => self.tensor(typed.int_contents.clone())?,
            (Content::Typed(typed), Element::Int64) => self.tensor(typed.int64_contents.clone())?,
        };
        Ok((self.port.name.clone(), value.into()))
    }

    fn tensor<T>(&self, values: Vec<T>) -> ort::Result<DynValue>
    where
        T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        Ok(Tensor::from_array((self.shape.to_vec(), values))?.into_dyn())
    }
}

fn decode<T, const N: usize>(raw: &[u8], of: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
}

/// A tensor a model gave: its shape and little-endian bytes.
pub fn encode(value: &DynValue, element: Element) -> ort::Result<(Vec<i64>, Bytes)> {
    fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Bytes {
        let mut out = Vec::with_capacity(values.len() * N);
        values.iter().for_each(|&value| out.extend_from_slice(&of(value)));
        out.into()
    }
    Ok(match element {
        Element::Float32 => {
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            (shape.to_vec(), bytes(values, f32::to_le_bytes))
        }
        Element::Float64 => {
            let (shape, values) = value.try_extract_tensor::<f64>()?;
            (shape.to_vec(), bytes(values, f64::to_le_bytes))
        }
        Element::Int32 => {
            let (shape, values) = value.try_extract_tensor::<i32>()?;
            (shape.to_vec(), bytes(values, i32::to_le_bytes))
        }
        Element::Int64 => {
            let (shape, values) = value.try_extract_tensor::<i64>()?;
            (shape.to_vec(), bytes(values, i64::to_le_bytes))
        }
    })
}
