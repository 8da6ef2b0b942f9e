//! Messages that somebody else receives and removes: Lambda does, and invokes the host with them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::store::{Delivery, StoreError};

use super::claims::Claimed;
use super::messages::Message;
use crate::after::Letter;
use crate::items::number_of;
use crate::keys::Place;
use crate::store::{Cloud, Core};

/// What is due so soon is waited for: SQS counts in seconds.
const SOON_MS: u64 = 1500;

/// What is to be done about a message.
pub enum Handed {
    /// Its event is handled, and then [`Cloud::is_done`] says whether it may be removed.
    Ours(Box<Delivery>),
    /// It may be removed: its event is gone, or another message tells of it.
    Spent,
}

impl Cloud {
    /// Whether a message is one of the store's.
    pub fn is_own(message: &str) -> bool {
        serde_json::from_str::<Place>(message).is_ok()
    }

    /// Claims the event that a message names.
    pub async fn hand(&self, message: &str) -> Result<Handed, StoreError> {
        let message = Message {
            place: serde_json::from_str(message).map_err(StoreError::new)?,
            handle: None,
        };
        loop {
            match self.core().claim_row(&message).await? {
                Claimed::Ours(delivery) => return Ok(Handed::Ours(delivery)),
                Claimed::Spent => return Ok(Handed::Spent),
                Claimed::Later(time) => {
                    let left = time.saturating_sub(self.core().now());
                    if left > SOON_MS {
                        self.core().tell_later(message.place, time).await?;
                        return Ok(Handed::Spent);
                    }
                    tokio::time::sleep(Duration::from_millis(left.max(1))).await;
                }
            }
        }
    }

    /// Whether a message may be removed whose event was handed out: it is gone, or another message tells of it when it
    /// is due. Else the host failed, and the message has to come again.
    pub async fn is_done(&self, message: &str) -> Result<bool, StoreError> {
        let place: Place = serde_json::from_str(message).map_err(StoreError::new)?;
        let Some(row) = self.core().row(&place.key()).await? else {
            return Ok(true);
        };
        let now = self.core().now();
        match number_of(&row, "due").filter(|due| *due > now) {
            Some(due) => self.core().tell_later(place, due).await.map(|()| true),
            None => Ok(false),
        }
    }
}

impl Core {
    async fn tell_later(self: &Arc<Self>, place: Place, due: u64) -> Result<(), StoreError> {
        let due = Some(due);
        self.send(&[Letter { place, due }]).await
    }
}
