//! Watching an app's files: what changes is deployed, and a mistake is told and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_runtime::{DeployError, Platform, Traffic, deploy};
use tokio_util::sync::CancellationToken;

/// The pause between two looks at the files. A change is deployed when a second look finds nothing new: whoever
/// writes a file should have written all of it.
const PAUSE: Duration = Duration::from_millis(300);

/// What is known of a file without reading it; none where there is none.
type Stamp = Option<(SystemTime, u64)>;

/// The files of an app.
pub struct Watch {
    platform: Arc<Platform>,
    manifest: PathBuf,
    components: Vec<PathBuf>,
    deployed: Vec<(PathBuf, Stamp)>,
}

impl Watch {
    /// Watches a manifest that was just deployed, and its components, which are also looked for in folders.
    pub fn new(platform: Arc<Platform>, manifest: &Path, components: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            platform,
            manifest: manifest.to_owned(),
            components,
            deployed: Vec::new(),
        };
        watch.deployed = watch.look();
        watch
    }

    /// Deploys what changes until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        tracing::info!(manifest = %self.manifest.display(), files = self.deployed.len(), "watching");
        while let Some(changed) = stop.run_until_cancelled(self.change()).await {
            self.deployed = changed;
            self.deploy().await;
        }
    }

    /// Waits until the files are others than those that were deployed, and stay so for a moment.
    async fn change(&self) -> Vec<(PathBuf, Stamp)> {
        let mut before = self.look();
        loop {
            tokio::time::sleep(PAUSE).await;
            let now = self.look();
            if now == before && now != self.deployed {
                return now;
            }
            before = now;
        }
    }

    fn look(&self) -> Vec<(PathBuf, Stamp)> {
        let files = deploy::sources(&self.manifest, &self.components);
        let stamped = |file: PathBuf| {
            let stamp = stamp(&file);
            (file, stamp)
        };
        files.into_iter().map(stamped).collect()
    }

    async fn deploy(&self) {
        match self.platform.deploy(&self.manifest, Traffic::All).await {
            Ok(deployed) => {
                tracing::info!(
                    app = deployed.app,
                    functions = deployed.functions.len(),
                    "deployed a change"
                );
            }
            Err(DeployError::Mistakes(mistakes)) => {
                tracing::error!("not deployed, what runs goes on:\n{mistakes}");
            }
            Err(error) => tracing::error!(%error, "not deployed, what runs goes on"),
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
