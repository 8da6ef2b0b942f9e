//! Buckets: those that manifests name, and publications into them from outside.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Platform;
use crate::dispatch::{NoRoom, has_room};
use crate::effects::{Cause, Draft};
use crate::jobs::CHECKPOINTS;
use crate::manifest::{Manifest, Trigger};
use crate::store::{CommitError, ObjectMeta, Publication, Unit};
use crate::trigger::OBJECT_CREATED;

/// The table of buckets.
pub const BUCKETS: &str = "$buckets";

impl Platform {
    /// Whether an object may be written from outside, as far as the functions are concerned that it triggers. To be asked
    /// before its bytes are taken.
    pub async fn has_room(&self, bucket: &str, key: &str) -> Result<(), NoRoom> {
        let source = source_of(bucket);
        let written = self.root(&source, OBJECT_CREATED, Some(key.to_owned()), None, Bytes::new());
        has_room(&self.services, &written).await
    }

    /// Publishes or deletes an object from outside; triggers fire.
    pub async fn publish(&self, publication: Publication) -> Result<ObjectMeta, CommitError> {
        self.publish_with(publication, Unit::default()).await
    }

    /// The same, and `more` in the same unit.
    pub async fn publish_with(
        &self,
        publication: Publication,
        more: Unit,
    ) -> Result<ObjectMeta, CommitError> {
        let (bucket, key) = (publication.bucket.clone(), publication.key.clone());
        let seen = ObjectMeta {
            key: key.clone(),
            size: publication.staged.as_ref().map_or(0, |staged| staged.size),
            etag: publication
                .staged
                .as_ref()
                .map(|staged| staged.etag.clone())
                .unwrap_or_default(),
            content_type: publication.content_type.clone(),
            modified: self.services.clock.now_ms(),
            sequencer: 0,
            user: publication.user.clone(),
        };
        let mut draft = Draft::new(&self.services);
        draft.unit = more;
        draft.object(
            publication,
            &Cause {
                source: source_of(&bucket),
                parent: None,
            },
        );
        draft.commit().await?;
        let stored = self.services.store.head(&bucket, &key).await?;
        Ok(stored.unwrap_or(seen))
    }
}

fn source_of(bucket: &str) -> String {
    format!("/objects/{bucket}")
}

/// The buckets that a manifest names.
pub(super) fn buckets_of(manifest: &Manifest) -> BTreeSet<String> {
    let mut buckets = BTreeSet::from([CHECKPOINTS.to_owned()]);
    for function in &manifest.functions {
        let grants = &function.grants.objects;
        buckets.extend(
            grants
                .read
                .iter()
                .chain(&grants.write)
                .map(|place| place.bucket.clone()),
        );
        buckets.extend(function.record.iter().map(|record| record.bucket.clone()));
        for trigger in &function.triggers {
            if let Trigger::Object { bucket, .. } = trigger {
                buckets.insert(bucket.clone());
            }
        }
    }
    buckets
}
