//! Buckets: those that manifests name, and publications into them from outside.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{EmitError, Platform};
use crate::dispatch::{NoRoom, has_room};
use crate::effects::{Cause, Draft};
use crate::event::Event;
use crate::jobs::CHECKPOINTS;
use crate::manifest::{Manifest, Mistake, Mistakes, Trigger};
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
        if self.config.attached.contains(&bucket) {
            return Err(CommitError::Conflict {
                table: format!("objects:{bucket}"),
                key,
                found: "a bucket of others, which is written where it lies".into(),
            });
        }
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

    /// Takes in a notice of a bucket of others: the change of the index that it tells of, and the notice as an event.
    pub async fn publish_noticed(
        &self,
        publication: Option<Publication>,
        more: Unit,
        notice: Event,
    ) -> Result<(), EmitError> {
        let notice = Event {
            run: self.services.new_id(),
            traceparent: self.services.new_traceparent(),
            ..notice
        };
        has_room(&self.services, &notice).await?;
        if let Some(Publication { bucket, key, .. }) =
            publication.as_ref().filter(|change| change.staged.is_some())
        {
            self.has_room(bucket, key).await?;
        }
        let mut draft = Draft::new(&self.services);
        draft.unit = more;
        if let Some(publication) = publication {
            let source = source_of(&publication.bucket);
            draft.object(publication, &Cause { source, parent: None });
        }
        draft.event(notice, None);
        Ok(draft.commit().await?)
    }

    /// Refuses a manifest whose functions would write into a bucket of others.
    pub(super) fn refuse_writes_to_others(&self, file: &str, manifest: &Manifest) -> Result<(), Mistakes> {
        let mut mistakes = Vec::new();
        for (path, function) in manifest.placed() {
            let granted = function.grants.objects.write.iter();
            let granted = granted.map(|place| ("grants.objects.write", &place.bucket));
            let recorded = function
                .record
                .iter()
                .map(|record| ("record.bucket", &record.bucket));
            let others = granted.chain(recorded);
            for (key, bucket) in others.filter(|(_, bucket)| self.config.attached.contains(*bucket)) {
                let message = format!(
                    "bucket `{bucket}` belongs to others, and is written where it lies; found a grant to write"
                );
                mistakes.push(Mistake::new(format!("{path}.{key}"), None, message));
            }
        }
        Mistakes::none(file, mistakes)
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
