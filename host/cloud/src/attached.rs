//! Buckets of others: their objects are in the index, and their bytes stay where they are.
//!
//! A row of the index names such bytes by the key, the version and the entity tag that a notice told. What was written
//! over or removed since then is not read: whoever tries is told so.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_sdk_s3::error::SdkError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_runtime::store::{ObjectMeta, ObjectReader, StoreError};

use crate::failure;
use crate::notices::Sequencer;
use crate::store::Core;

/// What the names of such bytes begin with; those of blobs never do.
const SIGN: &str = "outside:";

/// A bucket of others, under a name of its own here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The bucket, as S3 knows it.
    pub bucket: String,
    /// Only objects whose keys begin with it.
    pub prefix: String,
    /// The queue that notices of it come to, by name or URL; none where something else brings them.
    pub queue: Option<String>,
    /// Its region, where it is another one than the store's.
    pub region: Option<String>,
    /// Another service than the store's S3.
    pub endpoint: Option<String>,
}

/// Bytes in a bucket of others, as a row of the index names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    /// The bucket's name here.
    pub(crate) attached: String,
    pub(crate) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    pub(crate) etag: String,
    /// The notice that told of them.
    pub(crate) sequencer: Sequencer,
}

impl Outside {
    /// The name, in the place of a blob's.
    pub(crate) fn name(&self) -> String {
        let words = serde_json::to_string(self).unwrap_or_default();
        format!("{SIGN}{words}")
    }

    /// What a name says; none where it is a blob's.
    pub(crate) fn read(name: &str) -> Option<Self> {
        serde_json::from_str(name.strip_prefix(SIGN)?).ok()
    }
}

/// Whether bytes lie in a bucket of others.
pub(crate) fn is_outside(name: &str) -> bool {
    name.starts_with(SIGN)
}

/// Reads one version of an object of others.
pub(crate) struct OutsideReader {
    core: Arc<Core>,
    outside: Outside,
    meta: ObjectMeta,
    gone: OnceLock<String>,
}

impl OutsideReader {
    pub(crate) fn new(core: Arc<Core>, outside: Outside, meta: ObjectMeta) -> Self {
        Self {
            core,
            outside,
            meta,
            gone: OnceLock::new(),
        }
    }

    async fn get(&self, first: u64, last: u64) -> Result<Bytes, StoreError> {
        let Outside {
            attached,
            key,
            version,
            etag,
            ..
        } = &self.outside;
        let (bucket, client) = self.core.attachment(attached)?;
        let get = client.get_object().bucket(bucket).key(key);
        let get = get
            .set_version_id(version.clone())
            .if_match(format!("\"{etag}\""))
            .range(format!("bytes={first}-{last}"));
        let found = get.send().await.map_err(|error| match status_of(&error) {
            Some(404 | 412) => {
                let reason = format!(
                    "`{attached}/{key}` was written over or removed in `s3://{bucket}` after its notice"
                );
                StoreError(self.gone.get_or_init(|| reason).clone())
            }
            _ => failure::of("S3")(error),
        })?;
        let body = found.body.collect().await;
        Ok(body
            .map_err(|error| StoreError(format!("S3: `{attached}/{key}` broke off: {error}")))?
            .into_bytes())
    }
}

fn status_of<E>(error: &SdkError<E>) -> Option<u16> {
    Some(error.raw_response()?.status().as_u16())
}

#[async_trait]
impl ObjectReader for OutsideReader {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let end = offset.saturating_add(len as u64).min(self.meta.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        self.get(offset, end - 1).await
    }

    fn gone(&self) -> Option<&str> {
        self.gone.get().map(String::as_str)
    }
}

impl Core {
    /// A bucket of others, and who reads it.
    fn attachment(&self, name: &str) -> Result<(&str, &aws_sdk_s3::Client), StoreError> {
        let found = self.settings.attached.get(name).zip(self.attached.get(name));
        let found = found.map(|(attached, client)| (attached.bucket.as_str(), client));
        found.ok_or_else(|| {
            StoreError(format!(
                "the configuration has no `attached.{name}`, which this object is of"
            ))
        })
    }
}
