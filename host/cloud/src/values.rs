//! Values: in their rows while they are small, else in the bucket.

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::{StoreError, Versioned};

use crate::items::{Item, bytes, bytes_of, number_of, text, text_of};
use crate::store::Core;

/// Bytes that a row takes in; DynamoDB's bound is 400 KB with everything else in it.
pub(crate) const INLINE: usize = 300 * 1024;

/// Where bytes are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Stored {
    /// In the row.
    Inline(#[serde(with = "base64_bytes")] Bytes),
    /// In the bucket, under this name.
    Blob(String),
}

impl Stored {
    /// The attribute that a row keeps them by.
    pub(crate) fn attribute(&self) -> (String, AttributeValue) {
        match self {
            Self::Inline(value) => ("b".into(), bytes(value)),
            Self::Blob(name) => ("blob_at".into(), text(name)),
        }
    }

    /// Bytes in the row.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Inline(value) => value.len(),
            Self::Blob(name) => name.len(),
        }
    }

    fn of(item: &Item) -> Option<Self> {
        let inline = bytes_of(item, "b").map(|value| Self::Inline(Bytes::copy_from_slice(value)));
        inline.or_else(|| Some(Self::Blob(text_of(item, "blob_at")?.to_owned())))
    }
}

impl Core {
    /// Puts bytes that are too large for a row into the bucket. Where the unit is not committed, they stay as what
    /// was staged and not published, and are swept.
    pub(crate) async fn keep(&self, value: Bytes) -> Result<Stored, StoreError> {
        if value.len() <= INLINE {
            return Ok(Stored::Inline(value));
        }
        let name = self.new_id();
        self.note_staged(&name).await?;
        self.blobs.put(&name, value).await?;
        Ok(Stored::Blob(name))
    }

    /// The bytes of a row; none where it has none.
    pub(crate) async fn bytes_in(&self, item: &Item) -> Result<Option<Bytes>, StoreError> {
        match Stored::of(item) {
            None => Ok(None),
            Some(stored) => self.fetch(&stored).await.map(Some),
        }
    }

    /// The bytes themselves.
    pub(crate) async fn fetch(&self, stored: &Stored) -> Result<Bytes, StoreError> {
        match stored {
            Stored::Inline(value) => Ok(value.clone()),
            Stored::Blob(name) => self.blobs.get(name, None).await,
        }
    }

    /// The value of a row of state; none where it counts nothing any more.
    pub(crate) async fn value_of(&self, item: &Item) -> Result<Option<Versioned>, StoreError> {
        let version = number_of(item, "v").unwrap_or_default();
        self.stamps.saw(version);
        let value = match number_of::<i64>(item, "n") {
            Some(0) => None,
            Some(count) => Some(Bytes::from(count.to_string())),
            None => self.bytes_in(item).await?,
        };
        Ok(value.map(|value| Versioned { value, version }))
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}
