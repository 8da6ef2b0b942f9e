//! The protocol's element types: as JSON, as bytes, and as typed contents of a message.

use serde::Serializer;

use crate::inference::open_inference::InferTensorContents;

/// The protocol's element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Datatype {
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
    Bytes,
}

const NAMES: [(Datatype, &str); 13] = [
    (Datatype::Bool, "BOOL"),
    (Datatype::Uint8, "UINT8"),
    (Datatype::Uint16, "UINT16"),
    (Datatype::Uint32, "UINT32"),
    (Datatype::Uint64, "UINT64"),
    (Datatype::Int8, "INT8"),
    (Datatype::Int16, "INT16"),
    (Datatype::Int32, "INT32"),
    (Datatype::Int64, "INT64"),
    (Datatype::Fp16, "FP16"),
    (Datatype::Fp32, "FP32"),
    (Datatype::Fp64, "FP64"),
    (Datatype::Bytes, "BYTES"),
];

impl Datatype {
    /// The type of a protocol name; the error says which there are.
    pub(in crate::api) fn named(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(datatype, _)| *datatype).ok_or_else(|| {
            let known = NAMES.map(|(_, known)| known).join("`, `");
            format!("`datatype` is `{name}`, allowed are `{known}`")
        })
    }

    /// The protocol's name.
    pub(super) fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Writes a whole number, which must be one of this type.
    pub(super) fn push_whole(self, value: i128, out: &mut Vec<u8>) -> Result<(), String> {
        fn narrow<T: TryFrom<i128>, const N: usize>(
            value: i128,
            out: &mut Vec<u8>,
            of: impl Fn(T) -> [u8; N],
        ) -> Option<()> {
            out.extend_from_slice(&of(T::try_from(value).ok()?));
            Some(())
        }
        let written = match self {
            Self::Uint8 => narrow(value, out, u8::to_le_bytes),
            Self::Uint16 => narrow(value, out, u16::to_le_bytes),
            Self::Uint32 => narrow(value, out, u32::to_le_bytes),
            Self::Uint64 => narrow(value, out, u64::to_le_bytes),
            Self::Int8 => narrow(value, out, i8::to_le_bytes),
            Self::Int16 => narrow(value, out, i16::to_le_bytes),
            Self::Int32 => narrow(value, out, i32::to_le_bytes),
            Self::Int64 => narrow(value, out, i64::to_le_bytes),
            Self::Fp32 | Self::Fp64 => return self.push_number(value as f64, out),
            Self::Bool | Self::Fp16 | Self::Bytes => None,
        };
        written.ok_or_else(|| self.refuse(value))
    }

    /// Writes a number with a fraction.
    pub(super) fn push_number(self, value: f64, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Fp32 if value.abs() <= f64::from(f32::MAX) => {
                out.extend_from_slice(&(value as f32).to_le_bytes());
            }
            Self::Fp64 => out.extend_from_slice(&value.to_le_bytes()),
            _ => return Err(self.refuse(value)),
        }
        Ok(())
    }

    /// Writes `true` or `false`.
    pub(super) fn push_bool(self, value: bool, out: &mut Vec<u8>) -> Result<(), String> {
        if self != Self::Bool {
            return Err(self.refuse(value));
        }
        out.push(u8::from(value));
        Ok(())
    }

    /// Writes a text after its length.
    pub(super) fn push_text(self, value: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let length = u32::try_from(value.len()).ok().filter(|_| self == Self::Bytes);
        let length = length.ok_or_else(|| self.refuse(value.chars().take(32).collect::<String>()))?;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn refuse(self, found: impl std::fmt::Display) -> String {
        let allowed = match self {
            Self::Bool => "`true` and `false`",
            Self::Fp16 => "raw contents only: JSON has no form for them",
            Self::Fp32 | Self::Fp64 => "numbers",
            Self::Bytes => "texts",
            _ => "whole numbers of its range",
        };
        format!("found `{found}`, allowed for `{}` are {allowed}", self.name())
    }

    /// Writes elements as a list of JSON.
    pub(in crate::api) fn write<S: Serializer>(self, raw: &[u8], to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        match self {
            Self::Bool => to.collect_seq(raw.iter().map(|&byte| byte != 0)),
            Self::Uint8 => to.collect_seq(raw),
            Self::Uint16 => to.collect_seq(values(raw, u16::from_le_bytes)),
            Self::Uint32 => to.collect_seq(values(raw, u32::from_le_bytes)),
            Self::Uint64 => to.collect_seq(values(raw, u64::from_le_bytes)),
            Self::Int8 => to.collect_seq(values(raw, i8::from_le_bytes)),
            Self::Int16 => to.collect_seq(values(raw, i16::from_le_bytes)),
            Self::Int32 => to.collect_seq(values(raw, i32::from_le_bytes)),
            Self::Int64 => to.collect_seq(values(raw, i64::from_le_bytes)),
            Self::Fp32 => to.collect_seq(values(raw, f32::from_le_bytes)),
            Self::Fp64 => to.collect_seq(values(raw, f64::from_le_bytes)),
            Self::Fp16 => Err(S::Error::custom("JSON has no form for `FP16`")),
            Self::Bytes => {
                let found = texts(raw).and_then(|texts| {
                    texts
                        .into_iter()
                        .map(|text| std::str::from_utf8(text).ok())
                        .collect::<Option<Vec<_>>>()
                });
                to.collect_seq(found.ok_or_else(|| S::Error::custom("a text is no UTF-8"))?)
            }
        }
    }

    /// Elements as typed contents of a message; none where those have no place for this type.
    pub(super) fn typed(self, raw: &[u8]) -> Option<InferTensorContents> {
        let mut to = InferTensorContents::default();
        match self {
            Self::Bool => to.bool_contents = raw.iter().map(|&byte| byte != 0).collect(),
            Self::Uint8 => to.uint_contents = raw.iter().map(|&byte| byte.into()).collect(),
            Self::Uint16 => to.uint_contents = values(raw, |two| u16::from_le_bytes(two).into()).collect(),
            Self::Uint32 => to.uint_contents = values(raw, u32::from_le_bytes).collect(),
            Self::Uint64 => to.uint64_contents = values(raw, u64::from_le_bytes).collect(),
            Self::Int8 => to.int_contents = values(raw, |one| i8::from_le_bytes(one).into()).collect(),
            Self::Int16 => to.int_contents = values(raw, |two| i16::from_le_bytes(two).into()).collect(),
            Self::Int32 => to.int_contents = values(raw, i32::from_le_bytes).collect(),
            Self::Int64 => to.int64_contents = values(raw, i64::from_le_bytes).collect(),
            Self::Fp16 => return None,
            Self::Fp32 => to.fp32_contents = values(raw, f32::from_le_bytes).collect(),
            Self::Fp64 => to.fp64_contents = values(raw, f64::from_le_bytes).collect(),
            Self::Bytes => {
                let texts = texts(raw)?.into_iter();
                to.bytes_contents = texts.map(bytes::Bytes::copy_from_slice).collect();
            }
        }
        Some(to)
    }
}

fn values<T, const N: usize>(raw: &[u8], of: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    raw.as_chunks::<N>().0.iter().map(move |chunk| of(*chunk))
}

/// The texts of raw contents, each after its length in four bytes; none where the lengths do not add up.
fn texts(mut raw: &[u8]) -> Option<Vec<&[u8]>> {
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
        for (at, (datatype, name)) in NAMES.into_iter().enumerate() {
            assert_eq!(datatype as usize, at, "{name}");
            assert_eq!(Datatype::named(name), Ok(datatype));
        }
        let error = Datatype::named("FP8").unwrap_err();
        assert!(
            error.starts_with("`datatype` is `FP8`, allowed are `BOOL`"),
            "{error}"
        );
    }

    #[test]
    fn the_ends_of_every_range_come_back_and_what_is_beyond_is_refused() {
        for (datatype, least, most) in [
            (Datatype::Uint8, 0, 255),
            (Datatype::Uint16, 0, 65_535),
            (Datatype::Uint32, 0, i128::from(u32::MAX)),
            (Datatype::Uint64, 0, i128::from(u64::MAX)),
            (Datatype::Int8, -128, 127),
            (Datatype::Int16, -32_768, 32_767),
            (Datatype::Int32, i128::from(i32::MIN), i128::from(i32::MAX)),
            (Datatype::Int64, i128::from(i64::MIN), i128::from(i64::MAX)),
        ] {
            let mut raw = Vec::new();
            datatype.push_whole(least, &mut raw).unwrap();
            datatype.push_whole(most, &mut raw).unwrap();
            let mut json = Vec::new();
            datatype
                .write(&raw, &mut serde_json::Serializer::new(&mut json))
                .unwrap();
            assert_eq!(String::from_utf8(json).unwrap(), format!("[{least},{most}]"));
            assert!(datatype.push_whole(most + 1, &mut raw).is_err(), "{datatype:?}");
            assert!(datatype.push_whole(least - 1, &mut raw).is_err(), "{datatype:?}");
            assert!(datatype.push_number(0.5, &mut raw).is_err(), "{datatype:?}");
            assert!(datatype.typed(&raw).is_some());
        }
    }

    #[test]
    fn what_is_no_element_of_the_type_is_named() {
        let mut out = Vec::new();
        let error = Datatype::Bool.push_whole(1, &mut out).unwrap_err();
        assert_eq!(error, "found `1`, allowed for `BOOL` are `true` and `false`");
        assert!(Datatype::Fp32.push_number(1e39, &mut out).is_err());
        assert!(
            Datatype::Fp16
                .push_number(1.0, &mut out)
                .unwrap_err()
                .contains("raw contents")
        );
        assert!(Datatype::Int8.push_text("1", &mut out).is_err());
        assert!(Datatype::Fp64.push_bool(true, &mut out).is_err());
        assert!(out.is_empty());
    }
}
