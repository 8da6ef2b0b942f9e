//! One input of an inference request in JSON. Its elements are most of a body: where its type and shape stand before
//! them, as the protocol has it, they are read where they stand, and otherwise once these are known.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed as _, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use sonic_rs::LazyValue;

use super::datatype::Datatype;
use super::elements::Elements;

#[derive(Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) datatype: Datatype,
    pub(super) parameters: Option<Map<String, Value>>,
    /// Its elements as bytes, unless they follow the JSON.
    pub(super) data: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Name,
    Shape,
    Datatype,
    Parameters,
    Data,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Input;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an input with `name`, `shape` and `datatype`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Input, A::Error> {
        let (mut name, mut shape, mut datatype) = (None, None::<Vec<u64>>, None);
        let (mut parameters, mut data, mut unread) = (None, None, None::<LazyValue<'de>>);
        while let Some(field) = map.next_key()? {
            match (field, datatype, &shape) {
                (Field::Name, ..) => name = Some(map.next_value()?),
                (Field::Shape, ..) => shape = Some(map.next_value()?),
                (Field::Datatype, ..) => {
                    let known = Datatype::named(&map.next_value::<Cow<'de, str>>()?);
                    datatype = Some(known.map_err(|reason| within(name.as_ref(), reason))?);
                }
                (Field::Parameters, ..) => parameters = map.next_value()?,
                (Field::Data, Some(datatype), Some(shape)) => {
                    let elements = map.next_value_seed(Elements { datatype, shape });
                    data = Some(elements.map_err(|error| within(name.as_ref(), error))?);
                }
                (Field::Data, ..) => unread = Some(map.next_value()?),
                (Field::Other, ..) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let name = name.ok_or_else(|| A::Error::missing_field("name"))?;
        let missing = |field| within(Some(&name), A::Error::missing_field(field));
        let shape = shape.ok_or_else(|| missing("shape"))?;
        let datatype = datatype.ok_or_else(|| missing("datatype"))?;
        if let Some(unread) = unread {
            let mut list = sonic_rs::Deserializer::from_str(unread.as_raw_str());
            let shape = &shape;
            let elements = Elements { datatype, shape }.deserialize(&mut list);
            data = Some(elements.map_err(|error| {
                let error = error.to_string();
                // Where it is in the list says little; where the input is in the body is added.
                let said = error
                    .rsplit_once(" at line ")
                    .map_or(&error[..], |(said, _)| said);
                within(Some(&name), said)
            })?);
        }
        Ok(Input {
            name,
            shape,
            datatype,
            parameters,
            data,
        })
    }
}

/// A mistake within the input of that name.
fn within<E: Error>(name: Option<&String>, reason: impl fmt::Display) -> E {
    match name {
        Some(name) => E::custom(format_args!("input `{name}`: {reason}")),
        None => E::custom(reason),
    }
}
