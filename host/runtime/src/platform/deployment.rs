//! Deployment: from a manifest to functions that run, kept so that the next start runs them without its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::apps::{APPS, AppRecord, Splits, Traffic};
use super::buckets::{BUCKETS, buckets_of};
use super::versions::{MOST, Template, VersionRecord, Versions};
use super::{Handles, Platform, engine_error};
use crate::deploy::{self, Deployable, Deployed, Places, Source};
use crate::effects::Draft;
use crate::manifest::{Function, Manifest, Mistakes, queue_of};
use crate::sandbox::{Pool, Sandbox, forget_code, sha256_hex};
use crate::store::{CommitError, Condition, Depth, Order, Publication, StateWrite, StoreError, Unit};

/// Apps that are read back at the start.
pub(super) const MOST_APPS: usize = 1000;
/// The bucket of deployed components, by digest.
pub(super) const COMPONENTS: &str = "$components";

/// Why an app was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The manifest or its components.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// Another app has a function or a route of this name.
    #[error("{0}")]
    Taken(String),
    /// Too many versions have events left.
    #[error(
        "function `{function}` has {kept} versions with aliases or with events left, allowed are {}; wait until they \
         have drained, or remove aliases",
        MOST
    )]
    Versions {
        /// The function.
        function: String,
        /// How many there are.
        kept: usize,
    },
    /// The store did not commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Platform {
    /// Deploys a manifest with its components: what changed becomes a new version of its function. Functions of the
    /// same app that it no longer names are gone, unless no traffic is to be moved.
    pub async fn deploy(&self, file: &Path, traffic: Traffic) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (sandbox, places, path) = (self.sandbox.clone(), self.places(), file.to_owned());
        let loading = tokio::task::spawn_blocking(move || deploy::load(&sandbox, &path, &places));
        let (manifest, functions) = loading.await.map_err(StoreError::new)??;
        let turn = |record: &mut AppRecord, numbers| record.deploy(numbers, traffic);
        self.install(&file.display().to_string(), &manifest, functions, turn, None)
            .await
    }

    /// Keeps functions as the versions that they are, lets `turn` move aliases to them, and runs those that are live
    /// then; `also` is written with it. Only whoever has the turn to deploy calls it.
    pub(super) async fn install(
        &self,
        file: &str,
        manifest: &Manifest,
        mut functions: Vec<Deployable>,
        turn: impl FnOnce(&mut AppRecord, BTreeMap<String, u64>),
        also: Option<StateWrite>,
    ) -> Result<Deployed, DeployError> {
        let app = &manifest.app.name;
        self.refuse_writes_to_others(file, manifest)?;
        for function in &manifest.functions {
            self.refuse_taken(app, function)?;
        }
        let mut draft = Draft::new(&self.services);
        draft.unit.state.extend(also);
        let live = self.keep(file, manifest, &mut functions, turn, draft).await?;
        let infos: Vec<_> = functions
            .iter()
            .map(|function| function.info(app, live.get(&function.spec.name).cloned()))
            .collect();
        for function in &infos {
            for warning in &function.warnings {
                tracing::warn!(function = function.name, "{warning}");
            }
        }
        functions.retain(|Deployable { spec, .. }| {
            live.get(&spec.name).is_some_and(|split| split.has(spec.version))
        });
        self.activate(app, live, functions);
        Ok(Deployed {
            app: app.clone(),
            functions: infos,
        })
    }

    pub(super) fn places(&self) -> Places {
        Places {
            components: self.config.component_dirs.clone(),
            cache: Some(self.config.data_dir.join("cache")),
            packaged: self.config.packaged.clone(),
        }
    }

    /// Refuses a function whose name or route a function of another app has.
    pub(super) fn refuse_taken(&self, app: &str, function: &Function) -> Result<(), DeployError> {
        let taken = self.fleet().taken(app, function);
        taken.map_or(Ok(()), |reason| Err(DeployError::Taken(reason)))
    }

    /// Keeps what is deployed, so that the next start runs it without its files, and numbers the functions; hands
    /// back the versions that are live then.
    async fn keep(
        &self,
        file: &str,
        manifest: &Manifest,
        functions: &mut [Deployable],
        turn: impl FnOnce(&mut AppRecord, BTreeMap<String, u64>),
        mut draft: Draft<'_>,
    ) -> Result<Splits, DeployError> {
        let (store, app) = (self.services.store.as_ref(), &manifest.app.name);
        let (mut record, condition) = AppRecord::read(store, app).await?;
        let mut versions = Versions::read(store, None).await?;
        let before = versions.digests();
        let template = Template {
            app: app.clone(),
            at: self.services.clock.now_ms(),
            file: file.to_owned(),
            texts: manifest.texts(),
        };
        let mut numbers = BTreeMap::new();
        for function in functions.iter_mut() {
            self.keep_component(function, &mut draft.unit).await?;
            let number = versions.number(function, &template, &mut draft.unit)?;
            numbers.insert(function.spec.name.clone(), number);
        }
        let deployed: Vec<_> = numbers.keys().cloned().collect();
        turn(&mut record, numbers);
        for function in &deployed {
            versions.prune(function, &record, &self.fleet(), &mut draft.unit)?;
        }
        let left = self.left_by(app, &record, &versions).await?;
        versions.remove(&left, &mut draft.unit);
        let gone = versions.sweep(before, &mut draft.unit);
        draft.unit.state.push(record.write(app, condition)?);
        self.make_buckets(manifest, &mut draft.unit).await?;
        draft.commit().await?;
        self.forget_code(gone).await;
        Ok(record.live().clone())
    }

    /// The versions of functions that an app does not name any more which nothing needs: no alias points at them, the
    /// last change did not replace them, and none has events left. The latest one stays, so that no number is given twice.
    async fn left_by(
        &self,
        app: &str,
        record: &AppRecord,
        versions: &Versions,
    ) -> Result<BTreeSet<(String, u64)>, StoreError> {
        let mut left = BTreeSet::new();
        for version in versions.iter().filter(|version| version.app == app) {
            let (function, number) = (&version.function, version.number);
            let latest = versions.of(function).last().map(|latest| latest.number);
            if record.deployed(function).is_some()
                || latest == Some(number)
                || record.needs(function, number)
                || self.fleet().running(function, number).is_some()
            {
                continue;
            }
            let depth = self.services.store.depth(&queue_of(function, number)).await?;
            if depth == Depth::default() {
                left.insert((function.clone(), number));
            }
        }
        Ok(left)
    }

    /// Removes the machine code of components that are gone. What cannot be removed costs room and nothing else.
    async fn forget_code(&self, gone: BTreeSet<String>) {
        let Some(folder) = self.places().cache.filter(|_| !gone.is_empty()) else {
            return;
        };
        let forgetting = tokio::task::spawn_blocking(move || forget_code(&folder, &gone));
        if let Ok(Err(error)) = forgetting.await {
            tracing::warn!(%error, "machine code that is not needed any more stays in the cache");
        }
    }

    async fn keep_component(&self, function: &Deployable, unit: &mut Unit) -> Result<(), StoreError> {
        let digest = &function.component.code.digest;
        let twice = unit.objects.iter().any(|publication| publication.key == *digest);
        if twice || self.services.store.head(COMPONENTS, digest).await?.is_some() {
            return Ok(());
        }
        let mut stage = self.services.store.stage().await?;
        stage.write(function.bytes.clone()).await?;
        unit.objects.push(Publication {
            bucket: COMPONENTS.into(),
            key: digest.clone(),
            staged: Some(stage.finish().await?),
            content_type: Some("application/wasm".into()),
            user: BTreeMap::new(),
            condition: Condition::None,
        });
        Ok(())
    }

    async fn make_buckets(&self, manifest: &Manifest, unit: &mut Unit) -> Result<(), StoreError> {
        for bucket in buckets_of(manifest) {
            if self.services.store.get(BUCKETS, &bucket).await?.is_none() {
                let created = serde_json::json!({ "created": self.services.clock.now_ms() });
                unit.state.push(StateWrite {
                    table: BUCKETS.into(),
                    key: bucket,
                    value: Some(created.to_string().into_bytes().into()),
                    condition: Condition::None,
                });
            }
        }
        Ok(())
    }

    /// Runs what was live before, and what has events left.
    pub(super) async fn restore(&self) -> anyhow::Result<()> {
        let store = &self.services.store;
        let versions = Versions::read(store.as_ref(), None);
        let apps = store.query(APPS, "", None, MOST_APPS, Order::Ascending);
        let (versions, page) = tokio::try_join!(versions, apps)?;
        for (app, row) in page.entries {
            let record: AppRecord = serde_json::from_slice(&row.value)?;
            self.run_app(&app, &record, &versions).await?;
        }
        Ok(())
    }

    /// Runs an app as it is kept; whether all that it wants could be loaded.
    pub(super) async fn run_app(
        &self,
        app: &str,
        record: &AppRecord,
        versions: &Versions,
    ) -> Result<bool, StoreError> {
        let (mut loaded, mut wanted) = (Vec::new(), 0);
        for version in versions.iter().filter(|version| version.app == app) {
            let runs = self.fleet().running(&version.function, version.number).is_some();
            if !runs && self.is_wanted(version, record).await? {
                wanted += 1;
                loaded.extend(self.load_or_complain(version).await);
            }
        }
        let all = loaded.len() == wanted;
        self.activate(app, record.live().clone(), loaded);
        Ok(all)
    }

    async fn is_wanted(&self, version: &VersionRecord, record: &AppRecord) -> Result<bool, StoreError> {
        let live = record.live().get(&version.function);
        if live.is_some_and(|split| split.has(version.number)) {
            return Ok(true);
        }
        // What is handed brings its version with it.
        if self.config.handles == Handles::Handed {
            return Ok(false);
        }
        let queue = queue_of(&version.function, version.number);
        Ok(self.services.store.depth(&queue).await? != Depth::default())
    }

    async fn load_or_complain(&self, version: &VersionRecord) -> Option<Deployable> {
        let loaded = self.load(version).await;
        loaded
            .inspect_err(|error| {
                let (function, version) = (&version.function, version.number);
                tracing::error!(function, version, %error, "the version deployed before does not start");
            })
            .ok()
    }

    /// Loads a version that is kept.
    pub(super) async fn load(&self, version: &VersionRecord) -> Result<Deployable, DeployError> {
        let manifest = version.alone()?;
        let (sandbox, places, file) = (self.sandbox.clone(), self.places(), version.file.clone());
        let source = self.source(&version.digest, &places).await?;
        let linking = tokio::task::spawn_blocking(move || {
            deploy::link(&sandbox, &manifest, &file, &places, |_| Ok(source.clone()))
        });
        let linked = linking.await.map_err(StoreError::new)??;
        let none = || StoreError(format!("version {} has no function", version.number));
        Ok(linked.into_iter().next().ok_or_else(none)?)
    }

    /// Where the code of a component that is kept comes from.
    async fn source(&self, digest: &str, places: &Places) -> Result<Source, StoreError> {
        if let Some(code) = self.sandbox.loaded(digest) {
            return Ok(Source::Loaded(code));
        }
        if places.has_code(digest) {
            return Ok(Source::Packaged(digest.to_owned()));
        }
        let object = self.services.store.open(COMPONENTS, digest).await?;
        let object = object.ok_or_else(|| StoreError(format!("component `{digest}` is missing")))?;
        let bytes = read_all(object.as_ref()).await?;
        verify(digest, &bytes)?;
        Ok(Source::Bytes(bytes.into()))
    }
}

/// Refuses bytes that are not the component that was deployed.
fn verify(digest: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let found = sha256_hex(bytes);
    if found == digest {
        return Ok(());
    }
    Err(StoreError(format!(
        "component `{digest}` is damaged: its bytes have the SHA-256 `{found}`"
    )))
}

async fn read_all(object: &dyn crate::store::ObjectReader) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < object.meta().size {
        let part = object.read_at(bytes.len() as u64, 4 << 20).await?;
        if part.is_empty() {
            return Err(StoreError(format!("object `{}` is cut short", object.meta().key)));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Checks a manifest and its components without running anything.
pub fn check(file: &Path, component_dirs: &[PathBuf]) -> anyhow::Result<Result<Deployed, Mistakes>> {
    let sandbox = Sandbox::new(Pool {
        instances: 8,
        ..Pool::default()
    })
    .map_err(engine_error)?;
    let places = Places {
        components: component_dirs.to_vec(),
        cache: None,
        packaged: None,
    };
    let checked = deploy::load(&sandbox, file, &places);
    Ok(checked.map(|(manifest, functions)| Deployed {
        functions: functions
            .iter()
            .map(|function| function.info(&manifest.app.name, None))
            .collect(),
        app: manifest.app.name,
    }))
}
