//! Tensors between the protocol and ONNX Runtime, and the checks of what a caller sends.

use bytes::Bytes;
use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{DynTensor, DynTensorRef, DynValue, Outlet, Tensor, ValueType};
use tonic::Status;

use super::element::{Element, join, split};
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

impl Port {
    /// Reads a model's input or output; the error names what is not served.
    pub fn read(outlet: &Outlet) -> Result<Self, String> {
        let refused = |what: String| {
            format!(
                "`{}` is {what}, served are tensors of the protocol's types",
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
        Ok(Self {
            name: outlet.name().to_owned(),
            element,
            shape: shape.to_vec(),
            symbols: dimension_symbols.to_vec(),
        })
    }

    /// Its shape, with the names of the dimensions the caller chooses.
    pub fn describe(&self) -> String {
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

    /// The name of its rows, which may be empty; none where their number is fixed.
    pub fn rows(&self) -> Option<&str> {
        let free = self.shape.first().is_some_and(|&size| size < 0);
        let symbol = self.symbols.first().map_or("", String::as_str);
        free.then_some(symbol)
    }

    /// What a caller sent for this port; `raw` is the tensor's entry of `raw_input_contents`, where there are any.
    pub fn check(&self, sent: &InferInputTensor, raw: Option<&Bytes>) -> Result<Elements, Status> {
        let bad = |reason: String| Status::invalid_argument(format!("input `{}` {reason}", self.name));
        let (found, allowed) = (&sent.datatype, self.element.name());
        if found != allowed {
            return Err(bad(format!("has datatype `{found}`, allowed is `{allowed}`")));
        }
        let fits = |(&found, &allowed): (&i64, &i64)| found > 0 && (allowed < 0 || found == allowed);
        if sent.shape.len() != self.shape.len() || !sent.shape.iter().zip(&self.shape).all(fits) {
            let allowed = self.describe();
            return Err(bad(format!("has shape {:?}, allowed is {allowed}", sent.shape)));
        }
        let raw = match (raw, &sent.contents) {
            (Some(raw), None) => raw.clone(),
            (None, Some(contents)) => self.element.raw(contents).map_err(bad)?,
            (Some(_), Some(_)) => {
                return Err(bad("has both raw and typed contents, allowed is one".to_owned()));
            }
            (None, None) => return Err(bad("has no contents".to_owned())),
        };
        let elements = Elements {
            shape: sent.shape.clone(),
            raw,
        };
        elements.complete(self.element).map_err(bad)?;
        Ok(elements)
    }

    /// The port's chosen dimensions with their sizes in a tensor.
    pub fn chosen<'a>(&'a self, tensor: &'a Elements) -> impl Iterator<Item = (&'a str, i64)> + 'a {
        let named = self.symbols.iter().zip(&self.shape).zip(&tensor.shape);
        named
            .filter(|((symbol, allowed), _)| **allowed < 0 && !symbol.is_empty())
            .map(|((symbol, _), &size)| (symbol.as_str(), size))
    }
}

/// A tensor: its shape, and its elements row by row, little-endian; texts each after their length in four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its elements.
    pub raw: Bytes,
}

impl Elements {
    /// How many there are, as the shape says.
    pub fn count(&self) -> usize {
        let sizes = self.shape.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        sizes.product()
    }

    /// Whether the bytes are those of the shape.
    fn complete(&self, element: Element) -> Result<(), String> {
        let sizes = self.shape.iter();
        let count = sizes.copied().try_fold(1i64, i64::checked_mul);
        let count = count.and_then(|count| usize::try_from(count).ok());
        let (found, expected, unit) = match element.size() {
            Some(size) => (
                Some(self.raw.len()),
                count.and_then(|count| count.checked_mul(size)),
                "bytes",
            ),
            None => (split(&self.raw).map(|texts| texts.len()), count, "texts"),
        };
        let (found, expected) = match (found, expected) {
            (Some(found), Some(expected)) if found == expected => return Ok(()),
            (found, expected) => (found, expected),
        };
        let found = found.map_or_else(
            || "lengths that do not add up to its".to_owned(),
            |found| found.to_string(),
        );
        let expected = expected.map_or_else(
            || "fewer than overflow a number".to_owned(),
            |expected| expected.to_string(),
        );
        Err(format!(
            "of shape {:?} has {found} {unit}, allowed are {expected}",
            self.shape
        ))
    }

    /// The tensor for ONNX Runtime; the error is the caller's.
    pub fn value(&self, element: Element) -> Result<SessionInputValue<'static>, String> {
        let value = match element {
            Element::Bytes => self.texts()?,
            element => self.numbers(element).map_err(|error| error.to_string())?,
        };
        Ok(value.into())
    }

    fn texts(&self) -> Result<DynValue, String> {
        let texts = split(&self.raw).unwrap_or_default();
        let texts = texts
            .into_iter()
            .map(|text| std::str::from_utf8(text).map(str::to_owned));
        let texts = texts.collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|error| format!("holds a text that is no UTF-8: {error}"))?;
        let value = Tensor::from_string_array((self.shape.clone(), texts.as_slice()));
        Ok(value.map_err(|error| error.to_string())?.into_dyn())
    }

    fn numbers(&self, element: Element) -> ort::Result<DynValue> {
        let mut tensor = DynTensor::new(&Allocator::default(), element.kind(), self.shape.clone())?;
        let to = tensor.data_ptr_mut().cast::<u8>();
        let room = element.size().unwrap_or(0) * self.count();
        // ONNX Runtime reads anything but 0 and 1 in a BOOL as it likes.
        let bools: Vec<u8>;
        let raw = if element == Element::Bool {
            bools = self.raw.iter().map(|&byte| u8::from(byte != 0)).collect();
            &bools
        } else {
            self.raw.as_ref()
        };
        // SAFETY: a new tensor on the CPU has `room` bytes, and nobody else has it.
        unsafe { std::ptr::copy_nonoverlapping(raw.as_ptr(), to, room.min(raw.len())) };
        Ok(tensor.into_dyn())
    }

    /// A tensor that a model gave.
    pub fn of(value: &DynValue, element: Element) -> ort::Result<Self> {
        if element == Element::Bytes {
            let (shape, texts) = value.try_extract_strings()?;
            return Ok(Self {
                shape: shape.to_vec(),
                raw: join(texts.iter().map(String::as_bytes)),
            });
        }
        let tensor: DynTensorRef<'_> = value.view().downcast()?;
        let shape = tensor.shape().to_vec();
        let mut given = Self {
            shape,
            raw: Bytes::new(),
        };
        let length = element.size().unwrap_or(0) * given.count();
        if length > 0 {
            let from = tensor.data_ptr().cast::<u8>();
            // SAFETY: the value holds so many elements of this type, on the CPU, and lives until they are copied.
            given.raw = Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(from, length) });
        }
        Ok(given)
    }
}
