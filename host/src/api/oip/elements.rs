//! The elements of a tensor out of JSON: a flat list, or lists within lists as the shape has them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::datatype::Datatype;

/// So many elements have room at once; a shape may say more than there are.
const ROOM: u64 = 1 << 18;

/// Reads the elements of a tensor as bytes; the error says what was found, and what was allowed.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Elements<'a> {
    /// Of which type they are.
    pub(in crate::api) datatype: Datatype,
    /// The tensor's shape.
    pub(in crate::api) shape: &'a [u64],
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<u8>, D::Error> {
        let Self { datatype, shape } = self;
        let expected = shape
            .iter()
            .try_fold(1u64, |all, &extent| all.checked_mul(extent));
        let room = expected.map_or(0, |count| count.min(ROOM) * 4);
        let mut out = Vec::with_capacity(room as usize);
        let list = Level {
            datatype,
            shape,
            depth: 0,
            out: &mut out,
        };
        let count = match list.deserialize(from)? {
            Found::Element => return Err(D::Error::custom("found one value, expected a list")),
            Found::List(count) => count,
        };
        if expected != Some(count) {
            return Err(D::Error::custom(format!(
                "found {count} elements, and shape {shape:?} has another number of them"
            )));
        }
        Ok(out)
    }
}

/// What was found in one place.
enum Found {
    Element,
    /// With so many elements in all.
    List(u64),
}

/// One value, which is an element or a list of such.
struct Level<'a> {
    datatype: Datatype,
    shape: &'a [u64],
    depth: usize,
    out: &'a mut Vec<u8>,
}

impl Level<'_> {
    /// Whether a list within lists is as long as the shape says.
    fn fits(&self, length: u64, flat: bool) -> bool {
        let whole = self.depth == 0 && flat;
        whole
            || (self.shape.get(self.depth) == Some(&length) && (!flat || self.depth + 1 == self.shape.len()))
    }

    fn element<E: Error>(written: Result<(), String>) -> Result<Found, E> {
        written.map(|()| Found::Element).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Found;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a list of elements of `{}`", self.datatype.name())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Found, E> {
        Self::element(self.datatype.push_bool(value, self.out))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Found, E> {
        Self::element(self.datatype.push_whole(value.into(), self.out))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Found, E> {
        Self::element(self.datatype.push_whole(value.into(), self.out))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Found, E> {
        Self::element(self.datatype.push_number(value, self.out))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Found, E> {
        Self::element(self.datatype.push_text(value, self.out))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let (mut length, mut count, mut flat) = (0, 0, true);
        while let Some(found) = list.next_element_seed(Level {
            datatype: self.datatype,
            shape: self.shape,
            depth: self.depth + 1,
            out: self.out,
        })? {
            let element = matches!(found, Found::Element);
            if length > 0 && element != flat {
                return Err(A::Error::custom(
                    "found elements beside lists, expected one or the other",
                ));
            }
            flat = element;
            length += 1;
            count += match found {
                Found::Element => 1,
                Found::List(count) => count,
            };
        }
        if !self.fits(length, flat) {
            let shape = self.shape;
            return Err(A::Error::custom(format!(
                "found a list of {length}, which is not of shape {shape:?}"
            )));
        }
        Ok(Found::List(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(json: &str, shape: &[u64]) -> Result<Vec<u8>, String> {
        let datatype = Datatype::Uint8;
        let elements = Elements { datatype, shape };
        let read = elements.deserialize(&mut sonic_rs::Deserializer::from_str(json));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn elements_may_lie_flat_or_as_the_shape_has_them() {
        let all = Ok(vec![1, 2, 3, 4]);
        for json in ["[1,2,3,4]", "[[1,2],[3,4]]"] {
            assert_eq!(bytes(json, &[2, 2]), all, "{json}");
        }
        assert_eq!(bytes("[[[1],[2]],[[3],[4]]]", &[2, 2, 1]), all);
        assert_eq!(bytes("[7]", &[]), Ok(vec![7]));
    }

    #[test]
    fn lists_of_another_shape_are_refused() {
        for (json, said) in [
            ("[1,2,3]", "found 3 elements, and shape [2, 2]"),
            ("[[1,2,3],[4]]", "found a list of 3, which is not of shape [2, 2]"),
            ("[[1,2]]", "found a list of 1"),
            ("[[1,2],3]", "found elements beside lists"),
            ("[[[1,2],[3,4]]]", "which is not of shape"),
            ("7", "found one value, expected a list"),
            ("[null]", "expected a list of elements of `UINT8`"),
            (
                "[1,2,3,300]",
                "found `300`, allowed for `UINT8` are whole numbers",
            ),
        ] {
            let error = bytes(json, &[2, 2]).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
