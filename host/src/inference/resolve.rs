//! From a reference such as `ranker@champion` to the object that holds the model.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_ml::reference::{ModelRef, Target};
use tidegate_ml::registry::{self, Alias, ModelVersion};
use tidegate_runtime::store::{Store, StoreError};
use tonic::Status;

use super::failure::Failure;

/// How long an answer is kept: a promotion is seen after at most this time.
const FRESH: Duration = Duration::from_millis(200);
/// Answers that are kept.
const KEPT: usize = 1024;

/// A version of a model, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Resolved {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) bucket: String,
    pub(super) key: String,
}

impl Resolved {
    /// What a worker says of this version.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        let Self { name, version, .. } = self;
        Failure::of(status, &format!("model `{name}` version `{version}`"))
    }
}

/// Looks references up in the registry, and keeps the answers for a moment.
pub(super) struct Resolver {
    store: Arc<dyn Store>,
    kept: Mutex<HashMap<String, (Instant, Arc<Resolved>)>>,
}

impl Resolver {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    pub(super) async fn resolve(&self, reference: &str) -> Result<Arc<Resolved>, Failure> {
        if let Some(resolved) = self.kept(reference) {
            return Ok(resolved);
        }
        let parsed: ModelRef = reference
            .parse()
            .map_err(|error| Failure::Invalid(format!("{error}")))?;
        let resolved = Arc::new(self.look_up(parsed).await?);
        self.keep(reference, &resolved);
        Ok(resolved)
    }

    fn kept(&self, reference: &str) -> Option<Arc<Resolved>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, resolved) = kept.get(reference)?;
        (since.elapsed() < FRESH).then(|| resolved.clone())
    }

    fn keep(&self, reference: &str, resolved: &Arc<Resolved>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < FRESH);
        }
        if kept.len() < KEPT {
            kept.insert(reference.to_owned(), (Instant::now(), resolved.clone()));
        }
    }

    async fn look_up(&self, reference: ModelRef) -> Result<Resolved, Failure> {
        let name = reference.name;
        match reference.target {
            Target::Alias(alias) => {
                let version = self.version_of(&name, &alias).await?;
                self.registered(name, version).await
            }
            Target::Version(version) => self.registered(name, version).await,
            Target::Object { bucket, key } => self.object(name, bucket, key).await,
        }
    }

    async fn version_of(&self, name: &str, alias: &str) -> Result<u64, Failure> {
        let row = self.row(&registry::alias_key(name, alias)).await?;
        let row =
            row.ok_or_else(|| Failure::NotFound(format!("model `{name}` has no alias `{alias}` yet")))?;
        let alias: Alias = decoded(&row, name)?;
        Ok(alias.version)
    }

    async fn registered(&self, name: String, version: u64) -> Result<Resolved, Failure> {
        let row = self.row(&registry::version_key(&name, version)).await?;
        let row = row.ok_or_else(|| Failure::NotFound(format!("model `{name}` has no version {version}")))?;
        let record: ModelVersion = decoded(&row, &name)?;
        Ok(Resolved {
            name,
            version: version.to_string(),
            bucket: record.artifact.bucket,
            key: record.artifact.key,
        })
    }

    /// A file that need not be registered; its version tells one content from another.
    async fn object(&self, name: String, bucket: String, key: String) -> Result<Resolved, Failure> {
        let found = self.store.head(&bucket, &key).await.map_err(unavailable)?;
        let meta =
            found.ok_or_else(|| Failure::NotFound(format!("there is no model file `{bucket}/{key}`")))?;
        let version = format!(
            "{}-{}",
            meta.etag.split('-').next().unwrap_or_default(),
            meta.sequencer
        );
        Ok(Resolved {
            name,
            version,
            bucket,
            key,
        })
    }

    async fn row(&self, key: &str) -> Result<Option<bytes::Bytes>, Failure> {
        let row = self.store.get(registry::TABLE, key).await.map_err(unavailable)?;
        Ok(row.map(|row| row.value))
    }
}

fn decoded<T: serde::de::DeserializeOwned>(row: &[u8], name: &str) -> Result<T, Failure> {
    let unreadable = |error| {
        Failure::Invalid(format!(
            "the registry's record of model `{name}` is unreadable: {error}"
        ))
    };
    serde_json::from_slice(row).map_err(unreadable)
}

fn unavailable(error: StoreError) -> Failure {
    Failure::Unavailable(error.to_string())
}
