//! Following what other hosts deploy, and what is declared: the rows of apps and the declarations are looked at every few
//! seconds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Platform;
use super::apps::{APPS, AppRecord};
use super::deployment::MOST_APPS;
use super::versions::Versions;
use crate::store::{Order, StoreError};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

impl Platform {
    /// Runs what other hosts deploy, and deploys what is declared, until the platform drains.
    pub(super) fn follow_other_hosts(self: &Arc<Self>) {
        let platform = Arc::downgrade(self);
        let services = self.services.clone();
        self.services.spawn(async move {
            let pause = || services.stopping.run_until_cancelled(services.clock.sleep(LOOK));
            while pause().await.is_some() {
                let Some(platform) = platform.upgrade() else {
                    return;
                };
                if let Err(error) = platform.follow_once().await {
                    tracing::warn!(%error, "what other hosts deployed is not known yet");
                }
                if let Err(error) = platform.settle_declarations().await {
                    tracing::warn!(%error, "what is declared is not known yet");
                }
            }
        });
    }

    /// Runs what others deployed, where it was not looked for a while.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let now = self.services.clock.now_ms();
        let last = self.followed.fetch_max(now, Ordering::Relaxed);
        match now.saturating_sub(last) < LOOK.as_millis() as u64 {
            true => Ok(()),
            false => self.follow_once().await,
        }
    }

    async fn follow_once(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.deploying.lock().await;
        let store = self.services.store.as_ref();
        let page = store.query(APPS, "", None, MOST_APPS, Order::Ascending).await?;
        for (app, row) in page.entries {
            let record: AppRecord = serde_json::from_slice(&row.value).map_err(StoreError::new)?;
            if self.fleet().has(&app, record.live()) {
                continue;
            }
            let versions = Versions::read(store, None).await?;
            match self.run_app(&app, &record, &versions).await? {
                true => tracing::info!(app, "runs what another host deployed"),
                false => tracing::warn!(app, "not all that another host deployed can be run here"),
            }
        }
        Ok(())
    }
}
