//! From a reference such as `ranker@champion` to the object that holds the model, or two that share its requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_ml::reference::{ModelRef, Target};
use tidegate_ml::registry::{self, Alias, ModelVersion};
use tidegate_runtime::store::{Store, StoreError};
use tidegate_runtime::trigger::Split;
use tonic::Status;

use super::failure::Failure;

/// How long an answer is kept: a promotion is seen after at most this time.
const FRESH: Duration = Duration::from_millis(200);
/// Answers that are kept.
const KEPT: usize = 1024;

/// A version of a model, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The bucket of its file.
    pub bucket: String,
    /// The key of its file.
    pub key: String,
    /// The digest of the file that was registered; none where the file need not be.
    pub sha256: Option<String>,
}

impl Resolved {
    /// What a worker says of this version.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        let Self { name, version, .. } = self;
        Failure::of(status, &format!("model `{name}` version `{version}`"))
    }
}

/// Who is asked for a reference.
#[derive(Debug)]
pub(super) struct Route {
    /// The version that it stands for.
    pub(super) main: Arc<Resolved>,
    /// Another one, that has a share of the requests.
    beside: Option<Beside>,
    /// One that is asked the same as well, and never answers.
    pub(super) shadow: Option<Arc<Resolved>>,
    /// Whether the versions of the champion's requests are compared: two that share them, or one with the one before it.
    pub(super) is_compared: bool,
}

#[derive(Debug)]
struct Beside {
    split: Split,
    number: u64,
    version: Arc<Resolved>,
}

impl Route {
    fn to(version: Resolved) -> Self {
        Self {
            main: Arc::new(version),
            beside: None,
            shadow: None,
            is_compared: false,
        }
    }

    /// The version that a key falls to: always the same one, as long as its share does not shrink.
    pub(super) fn pick(&self, key: &str) -> &Arc<Resolved> {
        match &self.beside {
            Some(beside) if beside.split.pick(key) == beside.number => &beside.version,
            _ => &self.main,
        }
    }
}

/// Looks references up in the registry, and keeps the answers for a moment.
pub(super) struct Resolver {
    store: Arc<dyn Store>,
    kept: Mutex<HashMap<String, (Instant, Arc<Route>)>>,
}

impl Resolver {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    pub(super) async fn resolve(&self, reference: &str) -> Result<Arc<Route>, Failure> {
        if let Some(route) = self.kept(reference) {
            return Ok(route);
        }
        let parsed: ModelRef = reference
            .parse()
            .map_err(|error| Failure::Invalid(format!("{error}")))?;
        let route = Arc::new(self.look_up(parsed).await?);
        self.keep(reference, &route);
        Ok(route)
    }

    fn kept(&self, reference: &str) -> Option<Arc<Route>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, route) = kept.get(reference)?;
        (since.elapsed() < FRESH).then(|| route.clone())
    }

    fn keep(&self, reference: &str, route: &Arc<Route>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < FRESH);
        }
        if kept.len() < KEPT {
            kept.insert(reference.to_owned(), (Instant::now(), route.clone()));
        }
    }

    async fn look_up(&self, reference: ModelRef) -> Result<Route, Failure> {
        let name = reference.name;
        match reference.target {
            Target::Alias(alias) => self.aliased(&name, &alias).await,
            Target::Version(version) => self.registered(&name, version).await.map(Route::to),
            Target::Object { bucket, key } => self.object(name, bucket, key).await.map(Route::to),
        }
    }

    async fn aliased(&self, name: &str, called: &str) -> Result<Route, Failure> {
        let row = self.row(&registry::alias_key(name, called)).await?;
        let row =
            row.ok_or_else(|| Failure::NotFound(format!("model `{name}` has no alias `{called}` yet")))?;
        let alias: Alias = decoded(&row, name)?;
        let mut route = Route::to(self.registered(name, alias.version).await?);
        let other = alias.versions.keys().find(|other| **other != alias.version);
        if let (Some(&number), Ok(split)) = (other, Split::try_from(alias.versions.clone())) {
            let version = Arc::new(self.registered(name, number).await?);
            route.beside = Some(Beside {
                split,
                number,
                version,
            });
        }
        route.is_compared = called == registry::CHAMPION && (alias.watched || route.beside.is_some());
        if let Some(shadow) = alias.shadow {
            route.shadow = Some(Arc::new(self.registered(name, shadow).await?));
        }
        Ok(route)
    }

    async fn registered(&self, name: &str, version: u64) -> Result<Resolved, Failure> {
        let row = self.row(&registry::version_key(name, version)).await?;
        let row = row.ok_or_else(|| Failure::NotFound(format!("model `{name}` has no version {version}")))?;
        let record: ModelVersion = decoded(&row, name)?;
        Ok(Resolved {
            name: name.to_owned(),
            version: version.to_string(),
            bucket: record.artifact.bucket,
            key: record.artifact.key,
            sha256: Some(record.artifact.sha256).filter(|sha256| !sha256.is_empty()),
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
            sha256: None,
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
