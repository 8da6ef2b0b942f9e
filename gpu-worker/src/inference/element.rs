//! The protocol's element types: their names, their sizes, and their typed contents as bytes.

use bytes::Bytes;
use ort::value::TensorElementType;

use super::proto::InferTensorContents;

/// The element types that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    /// Texts of any length.
    Bytes,
}

/// Each with the protocol's name, ONNX Runtime's type, and the bytes of one element; 0 where they differ.
const ELEMENTS: [(Element, &str, TensorElementType, usize); 13] = [
    (Element::Bool, "BOOL", TensorElementType::Bool, 1),
    (Element::Uint8, "UINT8", TensorElementType::Uint8, 1),
    (Element::Uint16, "UINT16", TensorElementType::Uint16, 2),
    (Element::Uint32, "UINT32", TensorElementType::Uint32, 4),
    (Element::Uint64, "UINT64", TensorElementType::Uint64, 8),
    (Element::Int8, "INT8", TensorElementType::Int8, 1),
    (Element::Int16, "INT16", TensorElementType::Int16, 2),
    (Element::Int32, "INT32", TensorElementType::Int32, 4),
    (Element::Int64, "INT64", TensorElementType::Int64, 8),
    (Element::Fp16, "FP16", TensorElementType::Float16, 2),
    (Element::Fp32, "FP32", TensorElementType::Float32, 4),
    (Element::Fp64, "FP64", TensorElementType::Float64, 8),
    (Element::Bytes, "BYTES", TensorElementType::String, 0),
];

impl Element {
    /// The protocol's name.
    pub fn name(self) -> &'static str {
        ELEMENTS[self as usize].1
    }

    /// ONNX Runtime's type.
    pub fn kind(self) -> TensorElementType {
        ELEMENTS[self as usize].2
    }

    /// Bytes of one element; none where they differ.
    pub fn size(self) -> Option<usize> {
        Some(ELEMENTS[self as usize].3).filter(|size| *size > 0)
    }

    /// The element of one of ONNX Runtime's types.
    pub fn of(kind: TensorElementType) -> Option<Self> {
        let found = ELEMENTS.iter().find(|known| known.2 == kind);
        found.map(|known| known.0)
    }

    /// A whole number as the bytes of one element; none where it is no such element.
    pub fn number(self, number: i64) -> Option<Bytes> {
        let bytes = match self {
            Self::Bool => vec![u8::try_from(number).ok().filter(|&flag| flag < 2)?],
            Self::Uint8 => u8::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Uint16 => u16::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Uint32 => u32::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Uint64 => u64::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Int8 => i8::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Int16 => i16::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Int32 => i32::try_from(number).ok()?.to_le_bytes().to_vec(),
            Self::Int64 => number.to_le_bytes().to_vec(),
            Self::Fp16 => vec![0, (number == 0).then_some(0)?],
            Self::Fp32 => (number as f32).to_le_bytes().to_vec(),
            Self::Fp64 => (number as f64).to_le_bytes().to_vec(),
            Self::Bytes => return None,
        };
        Some(bytes.into())
    }

    /// Typed contents as the bytes that raw contents are made of; the error says what cannot be told that way.
    pub fn raw(self, typed: &InferTensorContents) -> Result<Bytes, String> {
        match self {
            Self::Bool => Ok(typed.bool_contents.iter().map(|&value| u8::from(value)).collect()),
            Self::Uint8 => self.narrow(&typed.uint_contents, u8::to_le_bytes),
            Self::Uint16 => self.narrow(&typed.uint_contents, u16::to_le_bytes),
            Self::Uint32 => self.narrow(&typed.uint_contents, u32::to_le_bytes),
            Self::Uint64 => self.narrow(&typed.uint64_contents, u64::to_le_bytes),
            Self::Int8 => self.narrow(&typed.int_contents, i8::to_le_bytes),
            Self::Int16 => self.narrow(&typed.int_contents, i16::to_le_bytes),
            Self::Int32 => self.narrow(&typed.int_contents, i32::to_le_bytes),
            Self::Int64 => self.narrow(&typed.int64_contents, i64::to_le_bytes),
            Self::Fp16 => Err("has typed contents, allowed for `FP16` are raw ones".to_owned()),
            Self::Fp32 => self.narrow(&typed.fp32_contents, f32::to_le_bytes),
            Self::Fp64 => self.narrow(&typed.fp64_contents, f64::to_le_bytes),
            Self::Bytes => Ok(join(typed.bytes_contents.iter().map(AsRef::as_ref))),
        }
    }

    /// Values of the protocol's wider type, each of which must be one of this type.
    fn narrow<S, T, const N: usize>(self, values: &[S], of: impl Fn(T) -> [u8; N]) -> Result<Bytes, String>
    where
        S: Copy + std::fmt::Display,
        T: TryFrom<S>,
    {
        let mut raw = Vec::with_capacity(values.len() * N);
        for &value in values {
            let narrow =
                T::try_from(value).map_err(|_| format!("holds {value}, which is no {}", self.name()))?;
            raw.extend_from_slice(&of(narrow));
        }
        Ok(raw.into())
    }
}

/// Texts as raw contents: each after its length in four bytes.
pub fn join<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut raw = Vec::new();
    for text in texts {
        raw.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        raw.extend_from_slice(text);
    }
    raw.into()
}

/// The texts of raw contents; none where the lengths do not add up.
pub fn split(mut raw: &[u8]) -> Option<Vec<&[u8]>> {
    let mut texts = Vec::new();
    while !raw.is_empty() {
        let (length, rest) = raw.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        texts.push(text);
        raw = rest;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_types() {
        for (at, known) in ELEMENTS.iter().enumerate() {
            assert_eq!(known.0 as usize, at, "{}", known.1);
            assert_eq!(Element::of(known.2), Some(known.0));
        }
    }

    #[test]
    fn typed_contents_become_bytes_and_what_does_not_fit_is_named() {
        let typed = InferTensorContents {
            int_contents: vec![-1, 300],
            uint_contents: vec![1, 2],
            bytes_contents: vec![Bytes::from_static(b"ab"), Bytes::new()],
            ..Default::default()
        };
        assert_eq!(Element::Int16.raw(&typed).unwrap(), [255, 255, 44, 1].as_slice());
        assert_eq!(
            Element::Int8.raw(&typed).unwrap_err(),
            "holds 300, which is no INT8"
        );
        assert_eq!(Element::Uint8.raw(&typed).unwrap(), [1, 2].as_slice());
        let texts = Element::Bytes.raw(&typed).unwrap();
        assert_eq!(texts, [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0].as_slice());
        assert_eq!(split(&texts), Some(vec![b"ab".as_slice(), b""]));
        assert_eq!(split(&texts[..5]), None);
        assert!(Element::Fp16.raw(&typed).unwrap_err().contains("raw"));
    }
}
