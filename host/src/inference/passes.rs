//! Passes: what a worker shows to any host of a store, to read the file of a model that one of them told it to load.
//!
//! A pass is the HMAC of the file's place, by a key that all hosts of the store share and no worker knows.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tidegate_runtime::store::{CommitError, Condition, StateWrite, Store, StoreError, Unit};
use tokio::sync::OnceCell;

/// Where the key is kept, made by the first host that needs one.
const TABLE: &str = "$models.passes";
const ROW: &str = "key";

/// Gives passes, and knows them again.
pub(super) struct Passes {
    store: Arc<dyn Store>,
    key: OnceCell<Vec<u8>>,
}

impl Passes {
    /// Those of a store's hosts.
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            key: OnceCell::new(),
        }
    }

    /// The pass of an object.
    pub(super) async fn of(&self, bucket: &str, key: &str) -> Result<String, CommitError> {
        let tag = self.signed(bucket, key).await?.finalize().into_bytes();
        Ok(BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether a pass is that of an object.
    pub(super) async fn fits(&self, pass: &str, bucket: &str, key: &str) -> Result<bool, CommitError> {
        let Ok(tag) = BASE64_URL_SAFE_NO_PAD.decode(pass) else {
            return Ok(false);
        };
        Ok(self.signed(bucket, key).await?.verify_slice(&tag).is_ok())
    }

    async fn signed(&self, bucket: &str, key: &str) -> Result<Hmac<Sha256>, CommitError> {
        let shared = self.key.get_or_try_init(|| self.shared()).await?;
        let mut signed = Hmac::<Sha256>::new_from_slice(shared).map_err(StoreError::new)?;
        // A bucket's name has no slash.
        signed.update(format!("{bucket}/{key}").as_bytes());
        Ok(signed)
    }

    /// The key that is there, or a new one, whichever host was first.
    async fn shared(&self) -> Result<Vec<u8>, CommitError> {
        loop {
            if let Some(found) = self.store.get(TABLE, ROW).await? {
                return Ok(found.value.to_vec());
            }
            let made = StateWrite {
                table: TABLE.into(),
                key: ROW.into(),
                value: Some(rand::random::<[u8; 32]>().to_vec().into()),
                condition: Condition::Absent,
            };
            let unit = Unit {
                state: vec![made],
                ..Unit::default()
            };
            match self.store.commit(unit).await {
                Ok(()) | Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_runtime::store::memory::Memory;

    use super::*;

    #[tokio::test]
    async fn every_host_of_a_store_knows_a_pass_and_no_other_object_is_read_with_it() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let (one, other) = (Passes::new(store.clone()), Passes::new(store));
        let pass = one.of("models", "a/1.onnx").await.unwrap();
        assert!(other.fits(&pass, "models", "a/1.onnx").await.unwrap());
        for (pass, bucket, key) in [
            (pass.as_str(), "models", "a/2.onnx"),
            (pass.as_str(), "data", "a/1.onnx"),
            ("", "models", "a/1.onnx"),
            ("no pass", "models", "a/1.onnx"),
        ] {
            assert!(
                !other.fits(pass, bucket, key).await.unwrap(),
                "{pass} {bucket}/{key}"
            );
        }
        let elsewhere = Passes::new(Arc::new(Memory::default()));
        assert!(!elsewhere.fits(&pass, "models", "a/1.onnx").await.unwrap());
    }
}
