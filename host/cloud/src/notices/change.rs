//! What a notice changes: one row of the index, or nothing where it is known, or older than what is there.

use std::collections::BTreeMap;

use tidegate_runtime::event::Event;
use tidegate_runtime::store::{Condition, Publication, Staged, StateWrite, Store as _, StoreError, Unit};

use super::{Change, GONE, Notice, Sequencer};
use crate::attached::Outside;
use crate::store::Cloud;

/// A notice that is news, as one unit: it commits where nothing else was noticed of the object meanwhile.
#[derive(Debug)]
pub struct Noticed {
    /// The change of the index; none where there is nothing to change.
    pub publication: Option<Publication>,
    /// What else changes.
    pub more: Unit,
    /// The notice as a CloudEvent.
    pub event: Event,
}

/// What is known of an object.
struct Known {
    /// Its row of the index: the version of the row, and where its bytes are.
    row: Option<(u64, Option<Outside>)>,
    /// Where it is gone: the version of the row that says so, and its last notice.
    gone: Option<(u64, Sequencer)>,
}

impl Cloud {
    /// What a notice changes; none where it is known, or older than what is.
    ///
    /// `attached` is the bucket's name here.
    pub async fn noticed(&self, attached: &str, notice: &Notice) -> Result<Option<Noticed>, StoreError> {
        let mark = mark(attached, &notice.key);
        let known = self.known(attached, &notice.key, &mark).await?;
        if known.last().is_some_and(|last| *last >= notice.sequencer) {
            return Ok(None);
        }
        let publication = known.publication(attached, notice);
        let gone = matches!(notice.change, Change::Removed(_)) && known.loses(notice);
        let value = gone.then(|| serde_json::to_vec(&notice.sequencer)).transpose();
        let value = value.map_err(StoreError::new)?.map(Into::into);
        let write = StateWrite {
            table: GONE.into(),
            key: mark,
            value,
            condition: known
                .gone
                .as_ref()
                .map_or(Condition::Absent, |(version, _)| Condition::Version(*version)),
        };
        // Where it was not gone and is not, its row of the index tells the two apart.
        let writes = write.value.is_some() || known.gone.is_some();
        Ok(Some(Noticed {
            publication,
            more: Unit {
                state: writes.then_some(write).into_iter().collect(),
                ..Unit::default()
            },
            event: notice.cloud_event(),
        }))
    }

    async fn known(&self, attached: &str, key: &str, mark: &str) -> Result<Known, StoreError> {
        let row = self.core().object(attached, key).await?;
        let gone = self.get(GONE, mark).await?;
        let gone = gone.map(|row| Ok((row.version, serde_json::from_slice(&row.value)?)));
        Ok(Known {
            row: row.map(|row| (row.meta.sequencer, Outside::read(&row.blob))),
            gone: gone
                .transpose()
                .map_err(|error: serde_json::Error| StoreError::new(error))?,
        })
    }
}

impl Known {
    /// The last notice of it.
    fn last(&self) -> Option<&Sequencer> {
        let present = self
            .row
            .as_ref()
            .and_then(|(_, outside)| Some(&outside.as_ref()?.sequencer));
        present.max(self.gone.as_ref().map(|(_, last)| last))
    }

    /// Whether the notice removes what is here: another version than the present one may go without a change.
    fn loses(&self, notice: &Notice) -> bool {
        let present = self
            .row
            .as_ref()
            .and_then(|(_, outside)| outside.as_ref()?.version.as_ref());
        match (&notice.change, present) {
            (Change::Removed(Some(removed)), Some(present)) => removed == present,
            (Change::Removed(_), _) => true,
            (Change::Created { .. }, _) => false,
        }
    }

    fn publication(&self, attached: &str, notice: &Notice) -> Option<Publication> {
        let staged = match &notice.change {
            Change::Created { size, etag, version } => {
                let outside = Outside {
                    attached: attached.to_owned(),
                    key: notice.key.clone(),
                    version: version.clone(),
                    etag: etag.clone(),
                    sequencer: notice.sequencer.clone(),
                };
                Some(Staged {
                    blob: outside.name(),
                    size: *size,
                    etag: etag.clone(),
                })
            }
            Change::Removed(_) if self.row.is_some() && self.loses(notice) => None,
            Change::Removed(_) => return None,
        };
        Some(Publication {
            bucket: attached.to_owned(),
            key: notice.key.clone(),
            staged,
            content_type: None,
            user: BTreeMap::new(),
            condition: self
                .row
                .as_ref()
                .map_or(Condition::Absent, |(version, _)| Condition::Version(*version)),
        })
    }
}

/// Names an object among those that are gone; keys of objects are longer than those of state may be.
fn mark(attached: &str, key: &str) -> String {
    format!("{attached}/{}", blake3::hash(key.as_bytes()).to_hex())
}
