//! Rows as lines of JSON, in the words of DynamoDB's own: `{"pk":{"S":"..."},"v":{"N":"1"},"b":{"B":"..."}}`.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::StoreError;

use crate::items::Item;

/// The kinds of attributes that rows of this store have.
#[derive(Serialize, Deserialize)]
enum Value {
    S(String),
    N(String),
    B(String),
    #[serde(rename = "SS")]
    Texts(Vec<String>),
}

/// A row as a line; the same row is the same line.
pub(crate) fn line(row: &Item) -> Result<String, StoreError> {
    let values = row
        .iter()
        .map(|(name, value)| Ok((name, Value::of(name, value)?)));
    let values: BTreeMap<_, _> = values.collect::<Result<_, StoreError>>()?;
    serde_json::to_string(&values).map_err(StoreError::new)
}

/// The row of a line.
pub(crate) fn row(line: &str) -> Result<Item, StoreError> {
    let values: BTreeMap<String, Value> = serde_json::from_str(line).map_err(StoreError::new)?;
    values
        .into_iter()
        .map(|(name, value)| Ok((name, value.attribute()?)))
        .collect()
}

impl Value {
    fn of(name: &str, value: &AttributeValue) -> Result<Self, StoreError> {
        Ok(match value {
            AttributeValue::S(text) => Self::S(text.clone()),
            AttributeValue::N(number) => Self::N(number.clone()),
            AttributeValue::B(bytes) => Self::B(STANDARD.encode(bytes)),
            AttributeValue::Ss(texts) => {
                let mut texts = texts.clone();
                texts.sort();
                Self::Texts(texts)
            }
            _ => {
                return Err(StoreError(format!(
                    "the attribute `{name}` of a row is of no kind that this store writes"
                )));
            }
        })
    }

    fn attribute(self) -> Result<AttributeValue, StoreError> {
        Ok(match self {
            Self::S(text) => AttributeValue::S(text),
            Self::N(number) => AttributeValue::N(number),
            Self::B(bytes) => AttributeValue::B(Blob::new(STANDARD.decode(bytes).map_err(StoreError::new)?)),
            Self::Texts(texts) => AttributeValue::Ss(texts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::{bytes, number, text};

    #[test]
    fn a_row_comes_back_as_it_was() {
        let texts = AttributeValue::Ss(vec!["=a".into(), "=b".into()]);
        let all = [
            ("pk", text("t#a")),
            ("v", number(7)),
            ("b", bytes(&[0, 255, 10])),
            ("queues", texts),
        ];
        let row_of = Item::from(all.map(|(name, value)| (name.to_owned(), value)));
        let written = line(&row_of).unwrap();
        assert!(!written.contains('\n'));
        assert_eq!(row(&written).unwrap(), row_of);
    }
}
