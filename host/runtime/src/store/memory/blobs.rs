//! The bytes of objects, published and staged.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};

use super::{Inner, lock};
use crate::store::{ObjectMeta, ObjectReader, StageWriter, Staged, StoreError};

/// An object, or bytes that may become one.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) meta: ObjectMeta,
    pub(super) bytes: Bytes,
}

#[async_trait]
impl ObjectReader for Blob {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let from = usize::try_from(offset).map_or(self.bytes.len(), |offset| offset.min(self.bytes.len()));
        Ok(self
            .bytes
            .slice(from..from.saturating_add(len).min(self.bytes.len())))
    }
}

/// Bytes being staged.
pub(super) struct Stage {
    inner: Arc<Mutex<Inner>>,
    bytes: BytesMut,
}

impl Stage {
    pub(super) fn new(inner: Arc<Mutex<Inner>>) -> Self {
        Self {
            inner,
            bytes: BytesMut::new(),
        }
    }
}

#[async_trait]
impl StageWriter for Stage {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Staged, StoreError> {
        let bytes = self.bytes.freeze();
        let etag = Md5::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut inner = lock(&self.inner);
        let staged = Staged {
            blob: inner.count().to_string(),
            size: bytes.len() as u64,
            etag,
        };
        inner.staged.insert(staged.blob.clone(), bytes);
        Ok(staged)
    }
}
