//! Notices of buckets of others: each is one change of the index, whatever brings it.
//!
//! A host takes them from the queues that `[attached.NAME]` names. A message is removed when all that it tells is
//! committed; until then it comes again, and what is known already changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tidegate_cloud::notices::{Inbox, Letter, Notice, Unreadable, read};
use tidegate_cloud::{Attached, Cloud};
use tidegate_runtime::platform::BUCKETS;
use tidegate_runtime::store::{CommitError, Condition, StateWrite, Store as _, StoreError, Unit};
use tidegate_runtime::{EmitError, Platform};

use crate::api::Faces;

/// Messages that are taken in at one time, of each queue.
const AT_ONCE: usize = 10;
/// Tries of one notice while others of the same object come in.
const TRIES: usize = 16;
/// The pause before a queue that failed is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a message is not taken in; it comes again.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It is no notice.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The platform has no room, or the store does not answer.
    #[error(transparent)]
    Refused(#[from] EmitError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes notices in.
#[derive(Clone)]
pub struct Notices {
    platform: Arc<Platform>,
    cloud: Arc<Cloud>,
    attached: Arc<BTreeMap<String, Attached>>,
}

impl Notices {
    /// What takes them in; none where no bucket is attached.
    pub fn of(faces: &Faces, cloud: Option<&Arc<Cloud>>) -> Option<Self> {
        let attached = faces.config.store.attached();
        let cloud = cloud.filter(|_| !attached.is_empty())?;
        Some(Self {
            platform: faces.platform.clone(),
            cloud: cloud.clone(),
            attached: Arc::new(attached),
        })
    }

    /// The queues that a host asks for them.
    pub fn queues(&self) -> BTreeSet<String> {
        self.attached
            .values()
            .filter_map(|attached| attached.queue.clone())
            .collect()
    }

    /// Makes the buckets, under their names here; refuses a name that a bucket with objects of its own has.
    pub async fn attach(&self) -> Result<()> {
        for (name, attached) in self.attached.iter() {
            let row = self.cloud.get(BUCKETS, name).await?;
            let told = row
                .as_ref()
                .and_then(|row| serde_json::from_slice::<Value>(&row.value).ok());
            let before = told.and_then(|told| told.get("attached")?.as_str().map(str::to_owned));
            if before.as_ref() == Some(&attached.bucket) {
                continue;
            }
            if !self.cloud.list(name, "", None, 1).await?.entries.is_empty() {
                let has = before.map_or("objects of its own".to_owned(), |before| {
                    format!("objects of `{before}`")
                });
                let outside = &attached.bucket;
                bail!(
                    "`attached.{name}` is `{outside}`, but the bucket `{name}` has {has}; attach it under another name"
                );
            }
            let value =
                json!({ "created": chrono::Utc::now().timestamp_millis(), "attached": attached.bucket });
            let write = StateWrite {
                table: BUCKETS.into(),
                key: name.clone(),
                value: Some(value.to_string().into_bytes().into()),
                condition: row.map_or(Condition::Absent, |row| Condition::Version(row.version)),
            };
            let unit = Unit {
                state: vec![write],
                ..Unit::default()
            };
            match self.cloud.commit(unit).await {
                // Another host was faster.
                Ok(()) | Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes in what comes to a queue, as long as it is polled.
    pub async fn follow(self, queue: String) {
        loop {
            let failed = match self.cloud.inbox(&queue).await {
                Ok(inbox) => self.empty(&inbox, &queue).await,
                Err(error) => error,
            };
            tracing::warn!(queue, error = %failed, "notices wait in their queue");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes messages until the queue fails; why it did.
    async fn empty(&self, inbox: &Inbox, queue: &str) -> StoreError {
        loop {
            let letters = match inbox.receive().await {
                Ok(letters) => letters,
                Err(error) => return error,
            };
            let taken = stream::iter(letters).map(async |letter| self.open(letter, queue).await);
            let taken: Vec<Option<Letter>> = taken.buffer_unordered(AT_ONCE).collect().await;
            let taken: Vec<Letter> = taken.into_iter().flatten().collect();
            if let Err(error) = inbox.remove(&taken).await {
                return error;
            }
        }
    }

    /// Takes in one message; hands it back where it is done with.
    async fn open(&self, letter: Letter, queue: &str) -> Option<Letter> {
        match self.take_in(&letter.body, Some(queue)).await {
            Ok(()) => Some(letter),
            Err(error) => {
                tracing::warn!(queue, %error, "a message stays in its queue");
                None
            }
        }
    }

    /// Takes in all that a message tells. What comes from a queue may only speak of the buckets that name it.
    pub async fn take_in(&self, message: &str, queue: Option<&str>) -> Result<(), NotTaken> {
        for notice in read(message)? {
            let names = self.names_for(&notice, queue);
            if names.is_empty() {
                tracing::info!(
                    bucket = notice.bucket,
                    key = notice.key,
                    "a notice of what is not attached"
                );
            }
            for name in names {
                self.change(&name, &notice).await?;
            }
        }
        Ok(())
    }

    /// The attached buckets that a notice is about.
    fn names_for(&self, notice: &Notice, queue: Option<&str>) -> Vec<String> {
        let of = |attached: &Attached| {
            attached.bucket == notice.bucket
                && notice.key.starts_with(&attached.prefix)
                && queue.is_none_or(|queue| attached.queue.as_deref() == Some(queue))
        };
        let named = self.attached.iter().filter(|(_, attached)| of(attached));
        named.map(|(name, _)| name.clone()).collect()
    }

    /// Commits what a notice changes.
    async fn change(&self, name: &str, notice: &Notice) -> Result<(), NotTaken> {
        for _ in 0..TRIES {
            let Some(noticed) = self.cloud.noticed(name, notice).await? else {
                tracing::debug!(
                    bucket = name,
                    key = notice.key,
                    "a notice that is known, or older than what is"
                );
                return Ok(());
            };
            let published = self
                .platform
                .publish_noticed(noticed.publication, noticed.more, noticed.event)
                .await;
            match published {
                // Another notice of the object came in meanwhile.
                Err(EmitError::Commit(CommitError::Conflict { .. })) => {}
                published => return Ok(published?),
            }
        }
        let key = &notice.key;
        Err(StoreError(format!("`{name}/{key}` is changed all the time")).into())
    }
}
