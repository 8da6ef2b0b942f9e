//! Publications: rows of the index, under the condition that each object is still as it was read.

use tidegate_runtime::store::{CommitError, ObjectMeta, Publication, Staged, StoreError};

use super::{Action, Meaning, When};
use crate::attached::is_outside;
use crate::items::number;
use crate::keys::{self, values};
use crate::objects::Indexed;
use crate::store::Core;

/// How long the bytes of an object stay that was replaced, for those who read them, in milliseconds.
const LINGER_MS: u64 = 3600 * 1000;

impl Core {
    /// The objects as they are, where their conditions hold.
    pub(super) async fn present(&self, wanted: &[Publication]) -> Result<Vec<Option<Indexed>>, CommitError> {
        let mut present = Vec::with_capacity(wanted.len());
        for publication in wanted {
            let Publication { bucket, key, .. } = publication;
            let found = self.object(bucket, key).await?;
            let sequencer = found.as_ref().map(|object| object.meta.sequencer);
            let place = || (format!("objects:{bucket}"), key.clone());
            publication.condition.check(sequencer, place)?;
            present.push(found);
        }
        Ok(present)
    }

    pub(super) fn object_actions(
        &self,
        wanted: &[Publication],
        present: &[Option<Indexed>],
        stamp: u64,
    ) -> Result<Vec<Action>, StoreError> {
        let mut actions = Vec::new();
        for (publication, present) in wanted.iter().zip(present) {
            let key = keys::object(&publication.bucket, &publication.key)?;
            let when = match present {
                Some(object) => When::holds("v = :v", values([(":v", number(object.meta.sequencer))])),
                None => When::absent(),
            };
            match &publication.staged {
                Some(staged) => {
                    let object = self.published(publication, staged, stamp);
                    let mut row = key.item();
                    row.extend(object.attributes()?);
                    row.insert("v".into(), number(stamp));
                    // What lies outside was never staged here.
                    if !is_outside(&object.blob) {
                        let staged = Meaning::Staged(object.blob.clone());
                        actions.push(self.delete(&keys::staged(&object.blob), When::there(), staged)?);
                    }
                    actions.push(self.put(row, when, Meaning::Object, 0)?);
                }
                None => actions.push(self.delete(&key, when, Meaning::Object)?),
            }
            if let Some(object) = present.as_ref().filter(|object| !is_outside(&object.blob)) {
                actions.push(self.garbage_action(&object.blob, self.now() + LINGER_MS)?);
            }
        }
        Ok(actions)
    }

    fn published(&self, publication: &Publication, staged: &Staged, stamp: u64) -> Indexed {
        Indexed {
            meta: ObjectMeta {
                key: publication.key.clone(),
                size: staged.size,
                etag: staged.etag.clone(),
                content_type: publication.content_type.clone(),
                modified: self.now(),
                sequencer: stamp,
                user: publication.user.clone(),
            },
            blob: staged.blob.clone(),
        }
    }
}
